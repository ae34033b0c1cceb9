"""Label files beside the shards, each distinct sentence translated once.

Distinct source sentences go into buckets by hash, `<folder>/buckets/0007.texts.parquet`; a bucket is the unit of
translation and of resume and becomes `0007.translated.parquet`; label files, one a shard, are then made by look-up.
Every function is idempotent, every file appears whole: a rerun does what is missing and nothing twice.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError, TranslationError
from xlst_ray.mt.protocol import Translation, Translator, tidy
from xlst_ray.shards.files import iter_texts, label_url, read_labels, read_shard
from xlst_ray.shards.schema import LABEL_SCHEMA

TEXTS: Final = ".texts.parquet"
TRANSLATED: Final = ".translated.parquet"
TEXTS_SCHEMA: Final = pa.schema([pa.field("text", pa.string(), nullable=False)])
TRANSLATED_SCHEMA: Final = pa.schema([TEXTS_SCHEMA.field("text"), *list(LABEL_SCHEMA)[1:]])


class LabelCounts(TypedDict):
    """Rows by status; `reasons` counts the rows that are not ok by the reason in their `error`."""

    rows: int
    ok: int
    missing: int
    error: int
    reasons: dict[str, int]


def write_buckets(shard_folder: str, splits: Sequence[str], folder: str, buckets: int) -> int:
    """Write the distinct source sentences of some splits as bucket files; returns how many sentences there are.

    A bucket without a sentence has no file. `buckets/index.json`, written last, makes the buckets count as complete.

    Raises:
        ConfigError: the folder was begun with another number of buckets.
        DataError: a split has no shards.
    """
    url = _index_url(folder)
    if storage.exists(url):
        index = storage.read_json(url)
        if index["buckets"] != buckets:
            raise ConfigError(
                f"was begun with {index['buckets']} buckets, not {buckets}",
                where=folder,
                hint="keep the number, or choose another folder",
            )
        return int(index["distinct"])
    distinct = {tidy(text) for split in splits for text in iter_texts(shard_folder, split)} - {""}
    members: dict[int, list[str]] = defaultdict(list)
    for text in sorted(distinct):
        members[bucket_of(text, buckets)].append(text)
    for bucket, texts in members.items():
        storage.write_table(_bucket_url(folder, bucket, TEXTS), pa.table({"text": texts}, schema=TEXTS_SCHEMA))
    storage.write_json(url, {"buckets": buckets, "distinct": len(distinct), "splits": list(splits)})
    return len(distinct)


def bucket_of(text: str, buckets: int) -> int:
    """The bucket of a sentence: by its SHA-256, so the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % buckets


def bucket_urls(folder: str) -> list[str]:
    """The bucket files to hand to `translate_bucket`, in any order, on any worker."""
    return storage.list_files(storage.join(folder, "buckets"), TEXTS)


def translate_bucket(url: str, translator: Translator) -> LabelCounts:
    """Translate a bucket file into the file beside it, unless that is there.

    Raises:
        TranslationError: the engine broke its contract of one result a sentence.
    """
    output = url.removesuffix(TEXTS) + TRANSLATED
    if not storage.exists(output):
        texts = storage.read_table(url, ["text"])["text"].to_pylist()
        results = translator.translate(texts)
        if len(results) != len(texts):
            raise TranslationError(f"the engine gave {len(results)} results for {len(texts)} sentences", where=url)
        storage.write_table(output, _table("text", texts, results, TRANSLATED_SCHEMA))
    return _count(storage.read_table(output, ["status", "error"]))


def assemble_labels(shard_url: str, folder: str) -> LabelCounts:
    """Make the label file of a shard by look-up in the translated buckets, unless it is there.

    Raises:
        DataError: a bucket is not translated yet, or the buckets were made from other shards.
    """
    shard = read_shard(shard_url, ["id", "text"])
    ids = shard["id"].to_pylist()
    url = label_url(shard_url, folder)
    if not storage.exists(url):
        texts = [tidy(text) for text in shard["text"].to_pylist()]
        found = _look_up(set(texts) - {""}, folder)
        found[""] = Translation(None, "missing", "empty source")
        storage.write_table(url, _table("id", ids, [found[text] for text in texts], LABEL_SCHEMA))
    return _count(read_labels(shard_url, folder, ids))


def human_labels(shard_url: str, folder: str, target: str) -> LabelCounts:
    """Make the label file of a shard from the corpus's own translations into `target`, unless it is there."""
    shard = read_shard(shard_url, ["id", "translations"])
    ids = shard["id"].to_pylist()
    url = label_url(shard_url, folder)
    if not storage.exists(url):
        results = [_human(dict(pairs).get(target)) for pairs in shard["translations"].to_pylist()]
        storage.write_table(url, _table("id", ids, results, LABEL_SCHEMA))
    return _count(read_labels(shard_url, folder, ids))


def sum_counts(parts: Iterable[LabelCounts]) -> LabelCounts:
    """The counts of several files together."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in parts:
        statuses.update(rows=part["rows"], ok=part["ok"], missing=part["missing"], error=part["error"])
        reasons.update(part["reasons"])
    return _counts(statuses, reasons)


def _human(text: str | None) -> Translation:
    tidied = tidy(text or "")
    return Translation(tidied, "ok") if tidied else Translation(None, "missing", "no human translation")


def _look_up(texts: set[str], folder: str) -> dict[str, Translation]:
    buckets = int(storage.read_json(_index_url(folder))["buckets"])
    wanted: dict[int, list[str]] = defaultdict(list)
    for text in texts:
        wanted[bucket_of(text, buckets)].append(text)
    found: dict[str, Translation] = {}
    for bucket, members in wanted.items():
        table = storage.read_table(_bucket_url(folder, bucket, TRANSLATED))
        # Filtered in Arrow: a bucket may hold many times the sentences that one shard asks for.
        for row in table.filter(pc.is_in(table["text"], value_set=pa.array(members))).to_pylist():
            found[row["text"]] = Translation(row["translation"], row["status"], row["error"])
    absent = texts - found.keys()
    if absent:
        raise DataError(
            f"has no translation of {min(absent)!r}",
            where=storage.join(folder, "buckets"),
            hint="the buckets were made from other shards; delete the folder and run jobs/pseudo_label.py again",
        )
    return found


def _table(key: str, keys: Sequence[str], results: Sequence[Translation], schema: pa.Schema) -> pa.Table:
    columns = {
        key: list(keys),
        "translation": [result.text for result in results],
        "status": [result.status for result in results],
        "error": [result.error for result in results],
    }
    return pa.table(columns, schema=schema)


def _count(table: pa.Table) -> LabelCounts:
    statuses = Counter(table["status"].to_pylist())
    statuses["rows"] = table.num_rows
    reasons = Counter(error.partition(":")[0] for error in table["error"].to_pylist() if error is not None)
    return _counts(statuses, reasons)


def _counts(statuses: Counter[str], reasons: Counter[str]) -> LabelCounts:
    return {
        "rows": statuses["rows"],
        "ok": statuses["ok"],
        "missing": statuses["missing"],
        "error": statuses["error"],
        "reasons": dict(sorted(reasons.items())),
    }


def _index_url(folder: str) -> str:
    return storage.join(folder, "buckets", "index.json")


def _bucket_url(folder: str, bucket: int, suffix: str) -> str:
    return storage.join(folder, "buckets", f"{bucket:04d}{suffix}")
