import gzip
import tracemalloc
from pathlib import Path

import pytest

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.bitext import read_moses, read_tmx
from xlst_ray.mt.pairs import PairsOptions, read_pairs

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en" datatype="plaintext"/><body>
<tu><tuv xml:lang="en-US"><seg>Good   day &amp; welcome</seg></tuv><tuv xml:lang="FI"><seg>Hyvää päivää</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept> <hi>now</hi>.</seg></tuv>
    <tuv xml:lang="fi"><seg>Napsauta <ph x="1"/>tästä.</seg></tuv><tuv xml:lang="fi"><seg>Toinen</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Only English</seg></tuv><tuv xml:lang="sv"><seg>Bara engelska</seg></tuv></tu>
<tu><tuv lang="en"><seg>Old attribute</seg></tuv><tuv lang="fi"><seg></seg></tuv></tu>
</body></tmx>
"""
PAIRS = [("Good day & welcome", "Hyvää päivää"), ("Click here now.", "Napsauta tästä.")]


@pytest.mark.parametrize("name", ["memory.tmx", "memory.tmx.gz"])
def test_translation_memories(tmp_path: Path, name: str) -> None:
    data = TMX.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    url = str(tmp_path / name)
    assert list(read_tmx(url, "en", "fi")) == PAIRS
    assert list(read_tmx(url, "fi", "en-GB")) == [(target, source) for source, target in PAIRS]
    assert sorted(read_pairs(PairsOptions(kind="tmx", path=url), "en", "fi")) == sorted(PAIRS)
    with pytest.raises(ConfigError, match=r"has no segments in et(.|\n)*it has en, fi, sv"):
        list(read_tmx(url, "en", "et"))


def test_memory_does_not_grow_with_a_translation_memory(tmp_path: Path) -> None:
    def peak(units: int) -> int:
        head, unit, tail = TMX.partition("<tu>")[0], TMX.splitlines()[3], "</body></tmx>"
        (tmp_path / "m.tmx").write_text(head + f"{unit}\n" * units + tail, encoding="utf-8")
        tracemalloc.start()
        assert sum(1 for _ in read_tmx(str(tmp_path / "m.tmx"), "en", "fi")) == units
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(8000) < 1.5 * peak(1000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TMX.encode()[:400], "cannot be read as TMX"),
        (b"", "cannot be read as TMX"),
        (b"<html></html>", "its root is html"),
        (b"noise", "cannot be read as TMX"),
    ],
)
def test_damaged_memories_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.tmx").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(read_tmx(str(tmp_path / "m.tmx"), "en", "fi"))


def test_pairs_of_files(tmp_path: Path) -> None:
    (tmp_path / "news.en").write_text("one\n two  words\n\nline\u2028separator\n", encoding="utf-8")
    (tmp_path / "news.fi.gz").write_bytes(gzip.compress("yksi\nkaksi sanaa\ntyhjä\nrivin erotin\n".encode()))
    expected = [("one", "yksi"), ("two words", "kaksi sanaa"), ("line separator", "rivin erotin")]
    prefix = str(tmp_path / "news")
    assert list(read_moses(prefix, "en", "fi")) == expected
    assert sorted(read_pairs(PairsOptions(kind="moses", path=prefix), "en", "fi")) == sorted(expected)
    with pytest.raises(ConfigError, match=r"news\.et: has no file of the language et"):
        list(read_moses(prefix, "en", "et"))


def test_pairs_of_files_out_of_step_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.en").write_text("one\ntwo\n")
    (tmp_path / "x.fi").write_text("yksi\n")
    with pytest.raises(DataError, match=r"x\.fi: ends after 1 lines, .*x\.en does not"):
        list(read_moses(str(tmp_path / "x"), "en", "fi"))
    (tmp_path / "x.fi").write_bytes(b"yksi\n\xff\n")
    with pytest.raises(DataError, match=r"x\.fi, line 2: is not UTF-8"):
        list(read_moses(str(tmp_path / "x"), "en", "fi"))
