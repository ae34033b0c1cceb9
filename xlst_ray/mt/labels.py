"""Label files beside the shards, from translations that lie ready or from the corpus's own.

    <folder>/answers/<texts>/0/0003.arrow     the translations of a block of buckets, a record batch for each group
    <folder>/train/shard-00000.parquet        the labels of a shard: its rows in its order

Every function is idempotent, every file appears whole: a rerun does what is missing and nothing twice.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt.buckets import EMPTY, SourceTexts
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.files import label_url, read_labels, read_shard
from xlst_ray.shards.schema import LABEL_SCHEMA

ANSWERS: Final = "answers"  # the folder of a label set that goes when all label files are there
ANSWER: Final = pa.schema(list(LABEL_SCHEMA)[1:])
EMPTY_SOURCE: Final = Translation(None, "missing", "empty source")
NO_HUMAN: Final = Translation(None, "missing", "no human translation")


class LabelCounts(TypedDict):
    """Rows by status; `reasons` counts the rows that are not ok by the reason in their `error`. `content` sums the
    first 64 bits of the SHA-256 of each label file, modulo 2^64: label sets with equal files have equal sums."""

    rows: int
    ok: int
    missing: int
    error: int
    reasons: dict[str, int]
    content: int


def answer(texts: SourceTexts, block: int, translations: Translations, folder: str, attempt: int) -> None:
    """Write the translations of the sentences of a block, group by group, for `assemble_labels`.

    Raises:
        DataError: a sentence is not translated yet.
    """
    url = _answers_url(texts, folder, attempt, block)
    if storage.exists(url):
        return
    known = pa.concat_tables(
        [translations.read(texts.name(bucket)).select(["text", *ANSWER.names]) for bucket in texts.block(block)]
    ).combine_chunks()
    parts = texts.group_parts(block)
    found = pc.index_in(pa.concat_arrays(parts), value_set=known["text"].combine_chunks())
    if found.null_count:
        raise DataError(
            f"has no translation of {found.null_count} sentences", where=translations.folder, hint="run the job again"
        )
    answers = known.select(ANSWER.names)
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))
    batches = (
        pa.record_batch(_columns(answers.take(found[begin:end])), schema=ANSWER) for begin, end in pairwise(starts)
    )
    storage.write_batches(url, ANSWER, batches)


def assemble_labels(
    texts: SourceTexts, group: int, shards: Sequence[str], folder: str, attempt: int, *, replace: bool
) -> LabelCounts:
    """Make the label files of a group's shards from the answers to its sentences.

    Args:
        replace: write anew those that are there and differ, as after another attempt.

    Raises:
        DataError: the shards are not those that were split into buckets.
    """
    labels, sizes = answers_of(texts, group, folder, attempt)
    counts, begin = [], 0
    for shard, size in zip(shards, sizes, strict=True):
        ids = read_shard(shard, ["id"])["id"]
        if len(ids) != size:
            hint = f"delete {texts.folder} and run jobs/pseudo_label.py again"
            raise DataError(f"has {len(ids)} rows, but had {size} when it was read first", where=shard, hint=hint)
        table = pa.table([ids, *labels.slice(begin, size).columns], schema=LABEL_SCHEMA)
        counts.append(_write(shard, folder, table, replace=replace))
        begin += size
    return sum_counts(counts)


def answers_of(texts: SourceTexts, group: int, folder: str, attempt: int) -> tuple[pa.Table, list[int]]:
    """The answers to the rows of a group by `ANSWER`, from all that `answer` has written; rows of each shard.

    Raises:
        DataError: answers are not there, as where another run of the job has come to its end and deleted them.
    """
    codes, sizes = texts.rows_of(group)
    urls = [_answers_url(texts, folder, attempt, block) for block in range(texts.blocks)]
    try:
        batches = [storage.read_batches(url, [group])[0] for url in urls]
    except DataError as error:
        hint = "has another run finished meanwhile? the same command tells, and does what is missing"
        raise DataError(error.what, where=error.where, hint=hint) from None
    answers = pa.Table.from_batches([*batches, _answers([EMPTY_SOURCE])])
    codes[codes == EMPTY] = len(answers) - 1
    return answers.take(pa.array(codes)).combine_chunks(), sizes


def human_labels(shard: str, folder: str, target: str) -> LabelCounts:
    """Make the label file of a shard from the corpus's own translations into `target`, unless it is there."""
    table = read_shard(shard, ["id", "translations"])
    results = [_human(dict(pairs).get(target)) for pairs in table["translations"].to_pylist()]
    labels = pa.table([table["id"], *_answers(results).columns], schema=LABEL_SCHEMA)
    return _write(shard, folder, labels, replace=False)


def sum_counts(parts: Iterable[LabelCounts]) -> LabelCounts:
    """The counts of several files together."""
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in parts:
        total.update({name: part[name] for name in ("rows", "ok", "missing", "error", "content")})
        reasons.update(part["reasons"])
    return {
        "rows": total["rows"],
        "ok": total["ok"],
        "missing": total["missing"],
        "error": total["error"],
        "reasons": dict(sorted(reasons.items())),
        "content": total["content"] % 2**64,
    }


def reason(error: str) -> str:
    """What a failure is counted by: `timeout` of `timeout: after 60 s`."""
    return error.partition(":")[0]


def _human(text: str | None) -> Translation:
    tidied = tidy(text or "")
    return Translation(tidied, "ok") if tidied else NO_HUMAN


def _write(shard: str, folder: str, table: pa.Table, *, replace: bool) -> LabelCounts:
    url = label_url(shard, folder)
    there = storage.exists(url)
    if there:
        found = read_labels(shard, folder, table["id"].to_pylist())
        data = storage.read_bytes(url)
    if not there or (replace and not found.equals(table)):
        found, data = table, storage.table_bytes(table)
        storage.write_bytes(url, data)
    return _count(found, data)


def _count(table: pa.Table, data: bytes) -> LabelCounts:
    statuses = _tally(table["status"])
    reasons: Counter[str] = Counter()
    for error, number in _tally(table["error"].drop_null()).items():
        reasons[reason(error)] += number
    return {
        "rows": table.num_rows,
        "ok": statuses["ok"],
        "missing": statuses["missing"],
        "error": statuses["error"],
        "reasons": dict(sorted(reasons.items())),
        "content": int.from_bytes(hashlib.sha256(data).digest()[:8], "big"),
    }


def _tally(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})


def _answers(results: Sequence[Translation]) -> pa.RecordBatch:
    columns: list[list[Any]] = [
        [result.text for result in results],
        [result.status for result in results],
        [result.error for result in results],
    ]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=ANSWER)


def _columns(table: pa.Table) -> list[pa.Array]:
    return [column.combine_chunks() for column in table.columns]


def _answers_url(texts: SourceTexts, folder: str, attempt: int, block: int) -> str:
    """Those of other buckets stand in another order, so each set of buckets has its own."""
    return storage.join(folder, ANSWERS, texts.folder.rpartition("/")[2], str(attempt), f"{block:04d}.arrow")
