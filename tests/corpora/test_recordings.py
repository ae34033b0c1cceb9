"""Members of containers are found by their addresses, and refused one by one where the container is damaged."""

from pathlib import Path

import minicorpora
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray import storage
from xlst_ray.audio.decode import AudioError, decode
from xlst_ray.corpora.recordings import Recordings, file_of, in_parquet, in_tar, name_of

URLS = st.sampled_from(["/data/a#b.tar", "s3://b/x@y/é.tar", "/x.tar#clip@1"])


@given(URLS, st.text(max_size=20), st.integers(0), st.integers(0))
def test_an_address_gives_back_its_file_and_its_name(url: str, name: str, first: int, second: int) -> None:
    for address in (in_tar(url, name, first, second), in_parquet(url, "audio", name, first, second)):
        assert file_of(address) == url
        assert name_of(address) == name.rpartition("/")[2]


@pytest.mark.parametrize("url", ["/a.wav", "s3://b/a#b.mp3", "espeak:fi?variant=f3#text%20x", "/a@1+2", "/a#b@c/d"])
def test_other_files_are_themselves(url: str) -> None:
    assert file_of(url) == url


@pytest.fixture
def parquet(tmp_path: Path) -> str:
    """Two row groups of three; the last row of each has no bytes."""
    rows = [{"bytes": minicorpora.sound(text, "FLAC"), "path": None} for text in "abde"]
    rows = [*rows[:2], {"bytes": None, "path": "x.wav"}, *rows[2:], {"bytes": None, "path": "y.wav"}]
    pq.write_table(pa.Table.from_pylist([{"audio": row} for row in rows]), tmp_path / "a.parquet", row_group_size=3)
    return str(tmp_path / "a.parquet")


def test_rows_of_parquet_in_any_order(parquet: str) -> None:
    recordings = Recordings()
    for group, row, text in ((0, 0, "a"), (0, 1, "b"), (1, 1, "e"), (1, 0, "d"), (0, 0, "a")):
        wave, _ = recordings.open(in_parquet(parquet, "audio", "", group, row)).segment()
        np.testing.assert_array_equal(wave, decode(minicorpora.sound(text, "FLAC"))[0])
    recordings.close()


def reason(address: str) -> str:
    with pytest.raises(AudioError) as caught:
        Recordings().open(address)
    return caught.value.reason


def test_what_is_not_there_is_said(parquet: str, tmp_path: Path) -> None:
    assert reason(in_parquet(parquet, "audio", "x.wav", 0, 2)) == "missing"
    assert reason(in_parquet(parquet, "audio", "", 0, 3)) == "unreadable"
    assert reason(in_parquet(str(tmp_path / "no.parquet"), "audio", "", 0, 0)) == "missing"
    assert reason(in_tar(str(tmp_path / "no.tar"), "a.wav", 0, 9)) == "missing"
    assert reason(str(tmp_path)) == "unreadable"


def test_a_damaged_parquet_file_is_unreadable_and_the_next_one_is_not(parquet: str, tmp_path: Path) -> None:
    data = bytearray(Path(parquet).read_bytes())
    data[4:200] = bytes(196)
    (tmp_path / "bad.parquet").write_bytes(data)
    recordings = Recordings()
    with pytest.raises(AudioError):
        recordings.open(in_parquet(str(tmp_path / "bad.parquet"), "audio", "", 0, 0))
    assert len(recordings.open(in_parquet(parquet, "audio", "", 1, 0)).segment()[0])


def test_a_member_past_the_end_of_its_tar_is_cut_off(tmp_path: Path) -> None:
    data = minicorpora.sound("abc")
    (tmp_path / "a.tar").write_bytes(bytes(512) + data[:-1])
    url = str(tmp_path / "a.tar")
    assert reason(in_tar(url, "a.wav", 512, len(data))) == "truncated"


def test_consecutive_rows_read_their_recording_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(minicorpora.sound("abc"))
    (tmp_path / "b.wav").write_bytes(b"no sound")
    read: list[str] = []
    original = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda url: read.append(url) or original(url))
    recordings = Recordings()
    for name in ("a.wav", "a.wav", "b.wav", "b.wav", "a.wav"):
        if name == "b.wav":
            with pytest.raises(AudioError, match="not audio"):
                recordings.open(str(tmp_path / name))
        else:
            recordings.open(str(tmp_path / name)).segment(duration=0.1)
    assert [url[-5:] for url in read] == ["a.wav", "b.wav", "a.wav"]


def test_a_row_group_is_read_page_by_page(tmp_path: Path) -> None:
    """Of a row group of 32 MiB, opening its first row reads a small part."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 1 << 20), np.uint8)
    rows = [{"audio": {"bytes": row.tobytes(), "path": None}} for row in noise]
    table, pages = pa.Table.from_pylist(rows), {"data_page_size": 1 << 20, "write_batch_size": 1}
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=32, compression="none", **pages)
    del table
    before = pa.total_allocated_bytes()
    with storage.open_parquet(str(tmp_path / "a.parquet"), buffer_size=1 << 20) as file:
        batch = next(iter(file.iter_batches(1, row_groups=[0], columns=["audio.bytes"])))
        assert bytes(batch.column(0).field(0)[0].as_buffer()) == noise[0].tobytes()
        assert pa.total_allocated_bytes() - before < 16 << 20
