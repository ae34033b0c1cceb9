"""From a corpus to shards, one a call: `plan_shards` once, then `convert_shard` on each plan, in any order, anywhere.

A plan is a file of rows that become one shard; the first call writes all plans, so that which utterance goes where is
settled before any audio is read. A shard's files are written in the order rejected, shard, counts: counts mean done.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal, TypedDict

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.decode import AudioError, AudioReason, Wave, decode, encode_flac, resample
from xlst_ray.corpora.corpus import Corpus
from xlst_ray.errors import DataError
from xlst_ray.shards.files import shard_name
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import ROW_GROUP_ROWS, SAMPLE_RATE, SHARD_SCHEMA, Utterance

Reason = AudioReason | Literal["too-short", "text-too-short", "text-too-long", "too-fast"]


class ShardCounts(TypedDict):
    """What became of a plan's rows: `rows` = `kept` + all `rejected`; `seconds` of audio kept."""

    rows: int
    kept: int
    seconds: float
    rejected: dict[str, int]


class _Rejected(Exception):  # noqa: N818  a row's fate, not an error
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


def plan_shards(corpus: Corpus, folder: str, options: ShardOptions, path: str = "") -> list[str]:
    """Write the plan files of all splits below `<folder>/plan`, unless they are there, and return their URLs.

    Args:
        path: where the corpus lies. Plans name recordings by their place, so they are written anew for another one;
            the same corpus has the same rows in the same shards there.

    Raises:
        DataError: from the corpus.
    """
    done = storage.join(folder, "plan", "done.json")
    if not storage.exists(done) or storage.read_json(done)["path"] != path:
        names = []
        for split in corpus.splits():
            rows = corpus.utterances(split)
            for index, part in enumerate(_parts(rows, options.rows_per_shard)):
                names.append(f"{split}-{index:05d}.jsonl")
                lines = (json.dumps(asdict(row), ensure_ascii=False) for row in part)
                storage.write_lines(storage.join(folder, "plan", names[-1]), lines)
        storage.write_json(done, {"path": path, "plans": names})
    return [storage.join(folder, "plan", name) for name in storage.read_json(done)["plans"]]


def convert_shard(plan_url: str, folder: str, options: ShardOptions) -> ShardCounts:
    """Decode and filter the rows of a plan into `<folder>/<split>/shard-00000.parquet`, unless it is there.

    A row that cannot be used goes to `shard-00000.rejected.jsonl` with a reason and is counted by it.
    """
    split, _, index = plan_url.rpartition("/")[2].removesuffix(".jsonl").rpartition("-")
    shard = storage.join(folder, split, shard_name(int(index)))
    base = shard.removesuffix(".parquet")
    if storage.exists(shard) and storage.exists(f"{base}.counts.json"):
        counts: ShardCounts = storage.read_json(f"{base}.counts.json")
        return counts
    kept: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    recordings = _Recordings()
    for row in _read_plan(plan_url):
        try:
            kept.append(_shard_row(row, recordings, options))
        except _Rejected as fate:
            rejected.append(
                {"id": row.id, "audio": row.audio, "reason": fate.reason, "detail": fate.detail, "text": row.text}
            )
    counts = _count(kept, rejected)
    storage.write_lines(f"{base}.rejected.jsonl", (json.dumps(row, ensure_ascii=False) for row in rejected))
    storage.write_table(shard, pa.Table.from_pylist(kept, SHARD_SCHEMA), row_group_size=ROW_GROUP_ROWS)
    storage.write_json(f"{base}.counts.json", counts)
    return counts


def sum_counts(counts: Iterable[ShardCounts]) -> ShardCounts:
    """The counts of several shards together, reasons in alphabetical order."""
    total = ShardCounts(rows=0, kept=0, seconds=0.0, rejected={})
    rejected: dict[str, int] = {}
    for part in counts:
        total["rows"] += part["rows"]
        total["kept"] += part["kept"]
        total["seconds"] = round(total["seconds"] + part["seconds"], 3)
        for reason, number in part["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + number
    total["rejected"] = dict(sorted(rejected.items()))
    return total


class _Recordings:
    """Bytes of recordings; one that consecutive rows share is read once."""

    def __init__(self) -> None:
        self._url, self._data = "", b""

    def read(self, url: str) -> bytes:
        """Raises `_Rejected` for a recording that is not there; a store that fails is an error, and raises its own."""
        if url != self._url:
            self._data = _read_recording(url)
            self._url = url
        return self._data


def _read_recording(url: str) -> bytes:
    if url.startswith("espeak:"):
        from xlst_ray.corpora.demo import read_audio

        return read_audio(url)
    try:
        return storage.read_bytes(url)
    except DataError as error:
        raise _Rejected("unreadable" if storage.exists(url) else "missing", error.what) from None


def _shard_row(row: Utterance, recordings: _Recordings, options: ShardOptions) -> dict[str, Any]:
    """A row of `SHARD_SCHEMA`. Raises `_Rejected`."""
    characters = len(row.text.strip())
    if characters < options.min_chars:
        raise _Rejected("text-too-short", f"{characters} characters")
    if options.max_chars is not None and characters > options.max_chars:
        raise _Rejected("text-too-long", f"{characters} characters")
    wave = _decode_row(row, recordings.read(row.audio), options)
    seconds = len(wave) / SAMPLE_RATE
    if seconds < options.min_seconds:
        raise _Rejected("too-short", f"{seconds:.3f} s")
    if options.max_chars_per_second is not None and characters > options.max_chars_per_second * seconds:
        raise _Rejected("too-fast", f"{characters} characters in {seconds:.2f} s")
    return {
        "id": row.id,
        "audio": encode_flac(wave, SAMPLE_RATE),
        "duration": seconds,
        "text": row.text,
        "lang": row.lang,
        "speaker": row.speaker,
        "group": row.group,
        "translations": list(row.translations.items()),
    }


def _decode_row(row: Utterance, data: bytes, options: ShardOptions) -> Wave:
    try:
        wave, rate = decode(data, offset=row.offset, duration=row.duration, at_most=options.max_seconds)
    except AudioError as error:
        raise _Rejected(error.reason, error.what) from None
    return resample(wave, rate, SAMPLE_RATE)


def _count(kept: list[dict[str, Any]], rejected: list[dict[str, str]]) -> ShardCounts:
    reasons = [row["reason"] for row in rejected]
    return ShardCounts(
        rows=len(kept) + len(rejected),
        kept=len(kept),
        seconds=round(sum(row["duration"] for row in kept), 3),
        rejected={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


def _read_plan(url: str) -> Iterator[Utterance]:
    for line in storage.read_bytes(url).decode().split("\n"):
        if line:
            yield Utterance(**json.loads(line))


def _parts(rows: Iterator[Utterance], size: int) -> Iterator[list[Utterance]]:
    while part := list(islice(rows, size)):
        yield part
