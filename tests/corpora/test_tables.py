"""Index files, line by line."""

import gzip
from pathlib import Path

import pytest

from xlst_ray.corpora.tables import Columns, read_lines, read_together
from xlst_ray.errors import DataError


def test_a_packed_file_reads_like_the_unpacked_one(tmp_path: Path) -> None:
    text = "één\n\ntwee\u2028x\r\ndrie".encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text))
    expected = [(1, "één"), (3, "twee\u2028x"), (4, "drie")]
    assert list(read_lines(str(tmp_path / "a.txt"))) == expected == list(read_lines(str(tmp_path / "a.txt.gz")))
    assert [line for _, line in read_lines(str(tmp_path / "a.txt"), blank=True)] == ["één", "", "twee\u2028x", "drie"]


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 40), slice(3, None)])
def test_a_packed_file_that_is_damaged_is_named(tmp_path: Path, damage: slice) -> None:
    data = gzip.compress(b"".join(b"%d\n" % (n * 7919) for n in range(2000)))
    (tmp_path / "a.gz").write_bytes(data[damage])
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        list(read_lines(str(tmp_path / "a.gz")))
    assert caught.value.where == str(tmp_path / "a.gz")


def test_files_out_of_step_are_refused(tmp_path: Path) -> None:
    for name, lines in {"a": "1\n2\n\n", "b": "x\n\nz\n", "c": "x\ny\n"}.items():
        (tmp_path / name).write_text(lines)
    urls = {name: str(tmp_path / name) for name in "abc"}
    assert [lines for _, lines in read_together([urls["a"], urls["b"]])] == [("1", "x"), ("2", ""), ("", "z")]
    with pytest.raises(DataError, match=f"fewer lines than {urls['a']}") as caught:
        list(read_together([urls["a"], urls["c"]]))
    assert caught.value.where == urls["c"]


def test_columns_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('b\ta\tc\n1\t"2\t3\n4\t5\n')
    columns = Columns(str(tmp_path / "a.tsv"), ("a", "b"), "hint")
    (_, good), (where, bad) = columns.rows()
    assert columns.of(good) == ['"2', "1"]
    assert where == f"{tmp_path}/a.tsv, row 3"
    with pytest.raises(DataError, match="2 columns where the header has 3"):
        columns.of(bad)
