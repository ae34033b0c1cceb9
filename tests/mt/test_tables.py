from pathlib import Path

import pytest

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.tables import read_table


def table(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_columns_are_found_by_language(tmp_path: Path) -> None:
    data = "\ufeffcs\ten\tnl\r\nano\tyes\tja\r\n\r\nne\tno\t nee \nmožná\tmaybe\t\n".encode()
    assert list(read_table(table(tmp_path / "t.tsv", data), "cs", "nl")) == [("ano", "ja"), ("ne", "nee")]


def test_only_a_newline_ends_a_row(tmp_path: Path) -> None:
    data = "cs\tnl\nano\u2028vskutku\tja\x85zeker\n".encode()
    assert list(read_table(table(tmp_path / "t.tsv", data), "cs", "nl")) == [("ano vskutku", "ja zeker")]


@pytest.mark.parametrize("data", [b"", b"yes\tja\n", b"cs\n"])
def test_a_header_without_the_languages_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConfigError, match="no column of the language"):
        list(read_table(table(tmp_path / "t.tsv", data), "cs", "nl"))


def test_damage_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3.*has 1 columns, the header 2"):
        list(read_table(table(tmp_path / "t.tsv", b"cs\tnl\nano\tja\nne\n"), "cs", "nl"))
    for head in (b"cs\tnl\n", b"\xef\xbb\xbfcs\tnl\r\n"):
        with pytest.raises(DataError, match=r"t\.tsv, line 3: is not UTF-8 \(byte 2\)\n  -> mend or delete the line"):
            list(read_table(table(tmp_path / "t.tsv", head + b"ano\tja\nne\xff\tnee\n"), "cs", "nl"))
    with pytest.raises(DataError, match=r"none\.tsv: no such file\n  -> a path"):
        list(read_table(str(tmp_path / "none.tsv"), "cs", "nl"))
