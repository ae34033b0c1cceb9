"""Shards from corpora: every row once, every unusable row with its reason, and nothing lost when it is cut short."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from xlst_ray import storage
from xlst_ray.audio.decode import DECODER, decode_flac
from xlst_ray.corpora.convert import ShardCounts, convert_shard, plan_shards, sum_counts
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.shards.files import iter_texts, shard_urls
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import ROW_GROUP_ROWS, SHARD_SCHEMA


def sound(seconds: float = 1.0, rate: int = 24_000, container: str = "MP3", pitch: float = 300.0) -> bytes:
    buffer = io.BytesIO()
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(buffer, wave.astype(np.float32), rate, format=container)
    return buffer.getvalue()


def make_manifest(folder: Path, split: str, rows: list[dict[str, Any]]) -> CorpusOptions:
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return CorpusOptions(reader="manifest", path=str(folder), lang="bg")


def convert(corpus: CorpusOptions, folder: Path, **changes: Any) -> ShardCounts:
    options = ShardOptions(**changes)
    plans = plan_shards(open_corpus(corpus), str(folder), options)
    return sum_counts(convert_shard(plan, str(folder), options) for plan in plans.urls)


def rejected(folder: Path, split: str = "train") -> list[dict[str, str]]:
    files = sorted((folder / split).glob("*.rejected.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def mixed(tmp_path: Path) -> CorpusOptions:
    """Five good clips among one bad clip of each kind, three rows a shard."""
    clips = tmp_path / "corpus"
    clips.mkdir()
    files = {
        "good-mp3.mp3": sound(),
        "empty.mp3": b"",
        "page.mp3": b"<html>not found</html>" * 50,
        "good-wav.wav": sound(1.2, 44_100, "WAV"),
        "cut.wav": sound(container="WAV")[:9_000],
        "good-flac.flac": sound(0.8, 16_000, "FLAC"),
        "silent.wav": sound(0.0, container="WAV"),
        "phone.m4a": b"\0\0\0\x20ftypM4A " + bytes(100),
        "short.wav": sound(0.05, container="WAV"),
        "long.wav": sound(3.0, container="WAV"),
        "good-ogg.ogg": sound(1.1, 48_000, "OGG"),
        "mute.wav": sound(container="WAV"),
        "good-again.mp3": sound(),
    }
    for name, data in files.items():
        (clips / name).write_bytes(data)
    rows = [{"id": name, "audio": name, "text": f"Клип {name}"} for name in files]
    rows.insert(3, {"id": "gone", "audio": "gone.mp3", "text": "няма го"})
    next(row for row in rows if row["id"] == "mute.wav")["text"] = "  "
    return make_manifest(clips, "train", rows)


REASONS = {
    "empty.mp3": "empty-file",
    "page.mp3": "not-audio",
    "gone": "missing",
    "cut.wav": "truncated",
    "silent.wav": "zero-length",
    "phone.m4a": "truncated",
    "short.wav": "too-short",
    "long.wav": "too-long",
    "mute.wav": "text-too-short",
}
GOOD = ["good-mp3.mp3", "good-wav.wav", "good-flac.flac", "good-ogg.ogg", "good-again.mp3"]


def test_each_row_is_kept_or_rejected_with_its_reason(mixed: CorpusOptions, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    counts = convert(mixed, out, rows_per_shard=3, max_seconds=2.0)
    urls = shard_urls(str(out), "train")
    tables = [storage.read_table(url) for url in urls]
    assert len(urls) == 5
    assert all(table.schema.equals(SHARD_SCHEMA) for table in tables)
    assert [name for table in tables for name in table["id"].to_pylist()] == GOOD
    assert {row["id"]: row["reason"] for row in rejected(out)} == REASONS
    assert all(row["detail"] for row in rejected(out))
    assert counts["rows"] == 14
    assert counts["kept"] == 5
    assert counts["rejected"] == dict(sorted(Counter(REASONS.values()).items()))
    assert counts["seconds"] == pytest.approx(1.0 + 1.2 + 0.8 + 1.1 + 1.0, abs=0.1)
    assert list(iter_texts(str(out), "train")) == [f"Клип {name}" for name in GOOD]


def test_a_shard_of_rejected_rows_is_empty_and_there(tmp_path: Path) -> None:
    corpus = make_manifest(tmp_path / "corpus", "test", [{"audio": "gone.wav", "text": "няма"}] * 2)
    convert(corpus, tmp_path / "out")
    (url,) = shard_urls(str(tmp_path / "out"), "test")
    table = storage.read_table(url)
    assert table.num_rows == 0
    assert table.schema.equals(SHARD_SCHEMA)


def test_audio_is_16_khz_mono_and_keeps_its_pitch(tmp_path: Path) -> None:
    clips = tmp_path / "corpus"
    clips.mkdir()
    (clips / "a.wav").write_bytes(sound(2.0, 22_050, "WAV", pitch=440.0))
    row = {"audio": "a.wav", "text": "ла", "speaker": "s", "group": "g", "translations": {"nl": "la", "el": "λα"}}
    convert(make_manifest(clips, "train", [row]), tmp_path / "out")
    (kept,) = storage.read_table(shard_urls(str(tmp_path / "out"), "train")[0]).to_pylist()
    wave = decode_flac(kept["audio"])
    assert kept["duration"] == len(wave) / 16_000 == pytest.approx(2.0, abs=1e-3)
    assert np.abs(np.fft.rfft(wave)).argmax() * 16_000 / len(wave) == pytest.approx(440.0, abs=0.5)
    assert (kept["speaker"], kept["group"], kept["lang"]) == ("s", "g", "bg")
    assert dict(kept["translations"]) == {"nl": "la", "el": "λα"}


def test_segments_of_one_recording(tmp_path: Path) -> None:
    clips = tmp_path / "corpus"
    clips.mkdir()
    rate = 16_000
    staircase = np.repeat([0.1, 0.2, 0.3], rate).astype(np.float32)
    soundfile.write(clips / "talk.wav", staircase, rate)
    times = [(0.0, 1.0), (1.0, 1.0), (2.0, None), (2.5, 1.0)]
    rows = [{"audio": "talk.wav", "text": "част", "offset": offset, "duration": length} for offset, length in times]
    counts = convert(make_manifest(clips, "train", rows), tmp_path / "out")
    table = storage.read_table(shard_urls(str(tmp_path / "out"), "train")[0])
    levels = [float(decode_flac(data).mean()) for data in table["audio"].to_pylist()]
    assert levels == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
    assert counts["rejected"] == {"segment-past-end": 1}


@pytest.mark.parametrize(
    ("changes", "text", "reason"),
    [
        ({"min_chars": 3}, "да", "text-too-short"),
        ({"max_chars": 5}, "да или не", "text-too-long"),
        ({"max_chars_per_second": 8}, "да или не", "too-fast"),
        ({"min_seconds": 1.5}, "да", "too-short"),
        ({"max_seconds": 0.5}, "да", "too-long"),
    ],
)
def test_each_filter_rejects_by_its_own_reason(tmp_path: Path, changes: dict[str, Any], text: str, reason: str) -> None:
    clips = tmp_path / "corpus"
    clips.mkdir()
    (clips / "a.flac").write_bytes(sound(1.0, 16_000, "FLAC"))
    corpus = make_manifest(clips, "train", [{"audio": "a.flac", "text": text}])
    assert convert(corpus, tmp_path / "off")["kept"] == 1
    assert convert(corpus, tmp_path / "on", **changes)["rejected"] == {reason: 1}


def test_common_voice_with_mp3_clips(tmp_path: Path) -> None:
    clips = tmp_path / "el" / "clips"
    clips.mkdir(parents=True)
    for name in ("a.mp3", "b.mp3"):
        (clips / name).write_bytes(sound(1.5, 32_000))
    lines = ["client_id\tpath\tsentence", "x\ta.mp3\tΚαλημέρα;", "y\tb.mp3\tΓεια σου", "z\tlost.mp3\tΠού είναι;"]
    (tmp_path / "el" / "train.tsv").write_text("\n".join(lines), encoding="utf-8")
    corpus = CorpusOptions(reader="common_voice", path=str(tmp_path / "el"), lang="el")
    counts = convert(corpus, tmp_path / "out")
    assert list(iter_texts(str(tmp_path / "out"), "train")) == ["Καλημέρα;", "Γεια σου"]
    assert counts["rejected"] == {"missing": 1}
    assert rejected(tmp_path / "out")[0]["text"] == "Πού είναι;"


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_a_second_run_writes_nothing(mixed: CorpusOptions, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts = convert(mixed, out, rows_per_shard=4)
    before = files_of(out)
    assert convert(mixed, out, rows_per_shard=4) == counts
    assert files_of(out) == before


def remove_counts(out: Path) -> None:
    (out / "train" / "shard-00001.counts.json").unlink()


def remove_shard_and_counts(out: Path) -> None:
    remove_counts(out)
    (out / "train" / "shard-00001.parquet").unlink()


def remove_plan_marker_and_all_shards(out: Path) -> None:
    (out / "plan" / "done.json").unlink()
    for path in (out / "train").iterdir():
        path.unlink()


@pytest.mark.parametrize("killed", [remove_counts, remove_shard_and_counts, remove_plan_marker_and_all_shards])
def test_a_run_killed_between_writes_ends_as_if_it_had_not_been(
    mixed: CorpusOptions, tmp_path: Path, killed: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    counts = convert(mixed, out, rows_per_shard=4)
    undisturbed = {name: data for name, (data, _) in files_of(out).items()}
    killed(out)
    assert convert(mixed, out, rows_per_shard=4) == counts
    assert {name: data for name, (data, _) in files_of(out).items()} == undisturbed


def test_a_finished_plan_is_not_made_again(mixed: CorpusOptions, tmp_path: Path) -> None:
    options = ShardOptions(rows_per_shard=4)
    plans = plan_shards(open_corpus(mixed), str(tmp_path / "out"), options)
    (Path(mixed.path) / "train.jsonl").unlink()
    assert plan_shards(open_corpus(mixed), str(tmp_path / "out"), options) == plans


def test_a_corpus_that_was_moved_between_is_planned_at_its_new_place(mixed: CorpusOptions, tmp_path: Path) -> None:
    """Killed before any shard was made, then the corpus went elsewhere: nothing is missing."""
    options, out = ShardOptions(rows_per_shard=4), str(tmp_path / "out")
    plan_shards(open_corpus(mixed), out, options, mixed.path)
    moved = Path(mixed.path).rename(tmp_path / "moved")
    elsewhere = mixed.replace(path=str(moved))
    plans = plan_shards(open_corpus(elsewhere), out, options, elsewhere.path)
    found = sum_counts(convert_shard(plan, out, options) for plan in plans.urls)
    expected = convert(elsewhere, tmp_path / "undisturbed", rows_per_shard=4)
    assert found == expected
    assert found["kept"] > 0


def test_recordings_are_part_of_the_fingerprint(mixed: CorpusOptions) -> None:
    before = open_corpus(mixed).fingerprint()
    recording = next(path for path in sorted(Path(mixed.path).rglob("*")) if path.suffix not in (".jsonl", ""))
    recording.write_bytes(recording.read_bytes() + b"more")
    changed = open_corpus(mixed).fingerprint()
    assert changed != before
    recording.unlink()
    assert open_corpus(mixed).fingerprint() not in (before, changed)


def test_rows_can_be_read_by_small_groups(tmp_path: Path) -> None:
    clips = tmp_path / "corpus"
    clips.mkdir()
    (clips / "a.flac").write_bytes(sound(0.2, 16_000, "FLAC"))
    rows = [{"audio": "a.flac", "text": "да"}] * (2 * ROW_GROUP_ROWS + 1)
    convert(make_manifest(clips, "dev", rows), tmp_path / "out")
    assert pq.ParquetFile(shard_urls(str(tmp_path / "out"), "dev")[0]).num_row_groups == 3


def test_a_recording_that_is_a_folder_is_rejected(tmp_path: Path) -> None:
    corpus = make_manifest(tmp_path / "corpus", "train", [{"audio": ".", "text": "да"}])
    assert convert(corpus, tmp_path / "out")["rejected"] == {"unreadable": 1}


def test_corpus_and_shards_may_be_urls(tmp_path: Path) -> None:
    clips = tmp_path / "corpus"
    clips.mkdir()
    (clips / "a.mp3").write_bytes(sound())
    rows = [{"audio": "a.mp3", "text": "да"}, {"audio": "gone.mp3", "text": "не"}]
    corpus = make_manifest(clips, "train", rows).replace(path=f"file://{clips}")
    out, options = f"file://{tmp_path}/out", ShardOptions()
    (plan,) = plan_shards(open_corpus(corpus), out, options).urls
    assert convert_shard(plan, out, options)["rejected"] == {"missing": 1}
    assert list(iter_texts(out, "train")) == ["да"]


def test_a_row_that_cannot_be_understood_is_in_the_plan_and_in_the_rejected_file(tmp_path: Path) -> None:
    corpus = make_manifest(tmp_path / "corpus", "train", [{"audio": "gone.wav", "text": "няма"}, {"audio": "a.wav"}])
    plans = plan_shards(open_corpus(corpus), str(tmp_path / "out"), ShardOptions())
    assert plans.rejected == {plans.urls[0]: {"malformed": 1}}
    assert convert(corpus, tmp_path / "out")["rejected"] == {"malformed": 1, "missing": 1}
    malformed, missing = rejected(tmp_path / "out")
    if malformed["reason"] == "missing":
        malformed, missing = missing, malformed
    assert malformed["where"].endswith("train.jsonl, row 2")
    assert malformed["detail"] == "has no field text; it has audio"
    assert missing["where"].endswith("train.jsonl, row 1")


def test_the_decoders_that_were_used_are_counted(mixed: CorpusOptions, tmp_path: Path) -> None:
    assert convert(mixed, tmp_path / "out")["decoders"] == [DECODER]


def test_sums_of_counts() -> None:
    first = ShardCounts(rows=3, kept=1, seconds=1.5, rejected={"missing": 2}, decoders=["b"])
    second = ShardCounts(rows=4, kept=2, seconds=2.25, rejected={"missing": 1, "empty-file": 1}, decoders=["a", "b"])
    assert sum_counts([first, second]) == ShardCounts(
        rows=7, kept=3, seconds=3.75, rejected={"empty-file": 1, "missing": 3}, decoders=["a", "b"]
    )
    assert sum_counts([]) == ShardCounts(rows=0, kept=0, seconds=0.0, rejected={}, decoders=[])
