"""Whole or not there: also when the writer is killed, the bytes are bad, or something else is in the way."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray import storage
from xlst_ray.errors import DataError


def test_a_path_and_its_file_url_are_the_same_file(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/a/ä b.txt", b"\x00\xff")
    assert storage.read_bytes(str(tmp_path / "a" / "ä b.txt")) == b"\x00\xff"
    assert storage.is_local(f"file://{tmp_path}")


@pytest.mark.parametrize("url", ["foo://bucket/x", "https://example.org/x"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(DataError, match="cannot be opened as a storage URL") as caught:
        storage.locate(url)
    assert caught.value.where == url
    assert "\n" not in caught.value.what


def test_join() -> None:
    assert storage.join("/a/", "b", "/c/") == "/a/b/c"
    assert storage.join("s3://bucket", "b") == "s3://bucket/b"


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("/a/b", "/a"),
        ("/a/b/", "/a"),
        ("/a", "/"),
        ("/", "/"),
        ("s3://bucket/a/b", "s3://bucket/a"),
        ("s3://bucket/a/", "s3://bucket"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("file:///a", "file:///"),
    ],
)
def test_parent(url: str, folder: str) -> None:
    assert storage.parent(url) == folder


def test_list_files_is_sorted_and_leaves_out_what_is_half_written(tmp_path: Path) -> None:
    for name in ("b.x", "a.x", "c.y", "sub/d.x", ".a.x.1234.tmp"):
        storage.write_bytes(str(tmp_path / name), b"")
    folder = str(tmp_path)
    assert storage.list_files(folder, ".x") == [f"{folder}/a.x", f"{folder}/b.x"]
    assert storage.list_files(f"{folder}/", recursive=True) == [
        f"{folder}/{n}" for n in ("a.x", "b.x", "c.y", "sub/d.x")
    ]
    assert storage.list_files(f"{folder}/nothing") == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    storage.write_json(str(file), {"old": "é"})

    def write() -> None:
        with storage.open_output(str(file)) as out:
            out.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert json.loads(file.read_text()) == {"old": "é"}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    storage.write_bytes(str(file), b"old")
    code = (
        "import os, signal, sys\nfrom xlst_ray import storage\n"
        "with storage.open_output(sys.argv[1]) as out:\n"
        "    out.write(b'half' * 100_000)\n    out.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    assert storage.list_files(str(tmp_path)) == [str(file)]
    storage.write_bytes(str(file), b"new")
    assert file.read_bytes() == b"new"


def _file_in_the_way(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file" / "a.json")


def _folder_in_the_way(folder: Path) -> str:
    (folder / "a.json").mkdir()
    return str(folder / "a.json")


@pytest.mark.parametrize(
    "place", [_file_in_the_way, _folder_in_the_way, lambda _: "/proc/nowhere/a.json", lambda f: str(f / ("x" * 300))]
)
def test_what_cannot_be_written_is_said(tmp_path: Path, place: Callable[[Path], str]) -> None:
    url = place(tmp_path)
    with pytest.raises(DataError, match="cannot be written") as caught:
        storage.write_json(url, {})
    assert caught.value.where == url
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{")
    for url, message in [
        (tmp_path / "nothing", "no such file"),
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "below", "cannot be read"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            storage.read_bytes(str(url))
        assert caught.value.where == str(url)
    with pytest.raises(DataError, match="is not JSON"):
        storage.read_json(str(tmp_path / "file"))
    with pytest.raises(DataError, match="is a file, not a folder"):
        storage.list_files(str(tmp_path / "file"))


@settings(deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_parquet_file_cut_off_anywhere_is_an_error(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    file = tmp_path_factory.getbasetemp() / "cut.parquet"
    storage.write_table(str(file), pa.table({"id": [f"row {n}" for n in range(100)]}), row_group_size=10)
    data = file.read_bytes()
    file.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(DataError, match="cannot be read as Parquet") as caught:
        storage.read_table(str(file))
    assert caught.value.where == str(file)
    assert "manifest.json" in str(caught.value.hint)


def test_bytes_flipped_within_a_parquet_page_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    storage.write_table(str(file), pa.table({"id": [f"row {n}" for n in range(1000)]}))
    data = bytearray(file.read_bytes())
    data[20:200] = b"\xff" * 180
    file.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        storage.read_table(str(file))


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    url = str(tmp_path / "a.parquet")
    storage.write_table(url, pa.table({"id": ["a"], "txt": ["b"]}))
    assert storage.read_table(url, ["txt"]).to_pydict() == {"txt": ["b"]}
    with pytest.raises(DataError, match="has no column text") as caught:
        storage.read_table(url, ["id", "text"])
    assert str(caught.value.hint) == "it has id, txt"


def test_folders_are_copied_and_deleted_whole(tmp_path: Path) -> None:
    for name in ("a", "sub/b"):
        storage.write_lines(str(tmp_path / "from" / name), ["ä", name])
    storage.copy_folder(f"{tmp_path}/from/", f"{tmp_path}/to")
    assert (tmp_path / "to" / "sub" / "b").read_text(encoding="utf-8") == "ä\nsub/b\n"
    with storage.local_folder(f"file://{tmp_path}/to") as folder:
        assert folder == tmp_path / "to"
    storage.delete(f"{tmp_path}/to/a")
    assert storage.list_files(f"{tmp_path}/to", recursive=True) == [f"{tmp_path}/to/sub/b"]
    storage.delete(f"{tmp_path}/to")
    storage.delete(f"{tmp_path}/to")
    assert not storage.exists(f"{tmp_path}/to")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file, into which this process may not look, though it be root's."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "file").write_bytes(b"1")
    folder.chmod(0)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    assert (folder / "file").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (lambda folder: storage.exists(f"{folder}/file"), "read"),
        (lambda folder: storage.list_files(str(folder)), "read"),
        (lambda folder: storage.read_bytes(f"{folder}/file"), "read"),
        (lambda folder: storage.delete(f"{folder}/file"), "deleted"),
        (lambda folder: storage.write_bytes(f"{folder}/file", b"2"), "written"),
    ],
)
def test_what_one_may_not_is_said_with_its_place(closed: Path, work: Callable[[Path], object], what: str) -> None:
    with pytest.raises(DataError, match=rf"closed.*: cannot be {what} \([Pp]ermission denied\)"):
        work(closed)


def test_no_space_left_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    storage.write_table(str(file), pa.table({"n": [1]}))
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # of every file: what a full disk is to a writer
    try:
        with pytest.raises(DataError, match=r"table\.parquet: cannot be written \(File too large\)") as caught:
            storage.write_table(str(file), pa.table({"n": np.random.default_rng(0).random(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "make space and run the same command" in str(caught.value)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_batches_are_read_one_by_one(tmp_path: Path) -> None:
    schema, url = pa.schema([("n", pa.int64())]), str(tmp_path / "n.arrow")
    storage.write_batches(url, schema, (pa.record_batch([list(range(n))], schema=schema) for n in range(5)))
    assert [batch["n"].to_pylist() for batch in storage.read_batches(url, [4, 0, 2])] == [[0, 1, 2, 3], [], [0, 1]]
    (tmp_path / "n.arrow").write_bytes((tmp_path / "n.arrow").read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Arrow"):
        storage.read_batches(url, [0])
