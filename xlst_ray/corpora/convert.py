"""From a corpus to shards, one a call: `plan_shards` once, then `convert_shard` on each plan, in any order, anywhere.

A plan is a file of rows that become one shard; the first call writes all plans, so that which utterance goes where is
settled before any audio is read. A shard's files are written in the order rejected, shard, counts: counts mean done.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypedDict

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.decode import AudioError, encode_flac, resample
from xlst_ray.corpora.corpus import Corpus, Row
from xlst_ray.corpora.recordings import Recordings
from xlst_ray.corpora.rejections import Reason
from xlst_ray.shards.files import shard_name
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import ROW_GROUP_ROWS, SAMPLE_RATE, SHARD_SCHEMA, Utterance


@dataclass(frozen=True)
class Plans:
    """What is to be done.

    Attributes:
        urls: the plan files, one a shard.
        rows: of all of them.
        rejected: rows that the index alone shows to be unusable, by plan file and reason.
    """

    urls: list[str]
    rows: int
    rejected: dict[str, dict[str, int]]


class ShardCounts(TypedDict):
    """What became of a plan's rows: `rows` = `kept` + all `rejected`; `seconds` of audio kept, by which decoders."""

    rows: int
    kept: int
    seconds: float
    rejected: dict[str, int]
    decoders: list[str]


class _Rejected(Exception):  # noqa: N818  a row's fate, not an error
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


def plan_shards(corpus: Corpus, folder: str, options: ShardOptions, path: str = "") -> Plans:
    """Write the plan files of all splits below `<folder>/plan`, unless they are there.

    Args:
        path: where the corpus lies. Plans name recordings by their place, so they are written anew for another one;
            the same corpus has the same rows in the same shards there.

    Raises:
        DataError: from the corpus.
    """
    plan = storage.join(folder, "plan")
    done = storage.join(plan, "done.json")
    if not storage.exists(done) or storage.read_json(done)["path"] != path:
        names, rows, rejected = [], 0, {}
        for split in corpus.splits():
            for index, part in enumerate(_parts(corpus.rows(split), options.rows_per_shard)):
                names.append(f"{split}-{index:05d}.jsonl")
                storage.write_lines(storage.join(plan, names[-1]), map(_plan_line, part))
                rows += len(part)
                if bad := Counter(row.reason for row in part if row.utterance is None):
                    rejected[names[-1]] = dict(bad)
        storage.write_json(done, {"path": path, "plans": names, "rows": rows, "rejected": rejected})
    found = storage.read_json(done)
    return Plans(
        [storage.join(plan, name) for name in found["plans"]],
        found["rows"],
        {storage.join(plan, name): counts for name, counts in found["rejected"].items()},
    )


def convert_shard(plan_url: str, folder: str, options: ShardOptions) -> ShardCounts:
    """Decode and filter the rows of a plan into `<folder>/<split>/shard-00000.parquet`, unless it is there.

    A row that cannot be used goes to `shard-00000.rejected.jsonl` with a reason and is counted by it.
    """
    base = shard_base(plan_url, folder)
    if storage.exists(f"{base}.parquet") and storage.exists(f"{base}.counts.json"):
        counts: ShardCounts = storage.read_json(f"{base}.counts.json")
        return counts
    kept: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    decoders: set[str] = set()
    with closing(Recordings()) as recordings:
        for line in _read_plan(plan_url):
            if "reason" in line:
                rejected.append(line)
                continue
            row = Utterance(**line["utterance"])
            try:
                kept.append(_shard_row(row, recordings, decoders, options))
            except _Rejected as fate:
                rejected.append(
                    {
                        "id": row.id,
                        "where": line["where"],
                        "audio": row.audio,
                        "reason": fate.reason,
                        "detail": fate.detail,
                        "text": row.text,
                    }
                )
    counts = _count(kept, rejected, decoders)
    storage.write_lines(f"{base}.rejected.jsonl", (json.dumps(row, ensure_ascii=False) for row in rejected))
    table = pa.Table.from_pylist(kept, SHARD_SCHEMA)
    storage.write_table(f"{base}.parquet", table, row_group_size=ROW_GROUP_ROWS)
    storage.write_json(f"{base}.counts.json", counts)
    return counts


def split_of(plan_url: str) -> str:
    return plan_url.rpartition("/")[2].partition("-")[0]


def shard_base(plan_url: str, folder: str) -> str:
    """The URL of a plan's shard without its ending, which `.rejected.jsonl` and `.counts.json` share."""
    index = plan_url.removesuffix(".jsonl").rpartition("-")[2]
    return storage.join(folder, split_of(plan_url), shard_name(int(index))).removesuffix(".parquet")


def sum_counts(counts: Iterable[ShardCounts]) -> ShardCounts:
    """The counts of several shards together, reasons in alphabetical order."""
    total = ShardCounts(rows=0, kept=0, seconds=0.0, rejected={}, decoders=[])
    rejected: Counter[str] = Counter()
    for part in counts:
        total["rows"] += part["rows"]
        total["kept"] += part["kept"]
        total["seconds"] = round(total["seconds"] + part["seconds"], 3)
        total["decoders"] = sorted({*total["decoders"], *part["decoders"]})
        rejected.update(part["rejected"])
    total["rejected"] = dict(sorted(rejected.items()))
    return total


def _shard_row(row: Utterance, recordings: Recordings, decoders: set[str], options: ShardOptions) -> dict[str, Any]:
    """A row of `SHARD_SCHEMA`. Raises `_Rejected`."""
    characters = len(row.text.strip())
    if characters < options.min_chars:
        raise _Rejected("text-too-short", f"{characters} characters")
    if options.max_chars is not None and characters > options.max_chars:
        raise _Rejected("text-too-long", f"{characters} characters")
    try:
        sound = recordings.open(row.audio)
        wave, rate = sound.segment(offset=row.offset, duration=row.duration, at_most=options.max_seconds)
    except AudioError as error:
        raise _Rejected(error.reason, error.what) from None
    wave = resample(wave, rate, SAMPLE_RATE)
    decoders.add(sound.decoder)
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


def _count(kept: list[dict[str, Any]], rejected: list[dict[str, str]], decoders: set[str]) -> ShardCounts:
    return ShardCounts(
        rows=len(kept) + len(rejected),
        kept=len(kept),
        seconds=round(sum(row["duration"] for row in kept), 3),
        rejected=dict(sorted(Counter(row["reason"] for row in rejected).items())),
        decoders=sorted(decoders),
    )


def _plan_line(row: Row) -> str:
    if row.utterance is None:
        return json.dumps({"where": row.where, "reason": row.reason, "detail": row.detail})
    return json.dumps({"where": row.where, "utterance": asdict(row.utterance)})


def _read_plan(url: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in storage.read_bytes(url).splitlines())


def _parts(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while part := list(islice(rows, size)):
        yield part
