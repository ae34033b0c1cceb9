"""Transcripts to label files with an instant engine: the plumbing alone, against a plain loop over the same Parquet.

In one process, so that processor seconds can be counted; Ray only hands these same steps to its workers. `LABEL_ROWS`
sets the number of rows: 100,000 by default.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from harness import Row, compare

from xlst_ray import storage
from xlst_ray.mt.buckets import SourceTexts, buckets_for, group_shards
from xlst_ray.mt.labels import answer, assemble_labels
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.mt.translate import translate_bucket
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.files import label_url, read_shard
from xlst_ray.shards.schema import LABEL_SCHEMA, SHARD_SCHEMA

ROWS = int(os.environ.get("LABEL_ROWS", "100000"))
SHARD_ROWS = 500
WORDS = 10  # of a sentence
DIFFERENT = 5000
RUNS = 3 if ROWS <= 1_000_000 else 1


class Instant:
    """An engine that costs nothing."""

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        return [Translation(text.upper(), "ok") for text in texts]


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as root:
        shards = _write(root)
        runs = (Path(root, "runs", str(number)) for number in range(1000))
        return compare(
            f"label plumbing, instant engine: {ROWS:,} rows in shards of {SHARD_ROWS}",
            {
                "ours": lambda: _ours(shards, str(next(runs))),
                "plain loop": lambda: _plain(shards, str(next(runs))),
            },
            amount=ROWS,
            unit="rows",
            equal=lambda ours, plain: _same(shards, ours, plain),
            runs=RUNS,
        )


def _ours(shards: Sequence[str], folder: str) -> str:
    groups, buckets = group_shards(shards, ROWS), buckets_for(ROWS)
    texts = SourceTexts(storage.join(folder, "texts"), ROWS, len(groups), buckets)
    kept, engine, labels = Translations(storage.join(folder, "kept")), Instant(), storage.join(folder, "labels")
    for number, group in enumerate(groups):
        texts.split(number, group)
    for block in range(texts.blocks):
        texts.gather(block)
    for bucket in range(buckets):
        translate_bucket(texts, bucket, kept, engine, run="bench")
    for block in range(texts.blocks):
        answer(texts, block, kept, labels, 0)
    for number, group in enumerate(groups):
        assemble_labels(texts, number, group, labels, 0, replace=False)
    return labels


def _plain(shards: Sequence[str], labels: str) -> str:
    """Each distinct sentence once, too, by a dictionary that holds them all."""
    known: dict[str, Translation] = {}
    engine = Instant()
    for shard in shards:
        table = read_shard(shard, ["id", "text"])
        texts = [tidy(text) for text in table["text"].to_pylist()]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, engine.translate(new), strict=True))
        found = [known[text] for text in texts]
        columns = [[one.text for one in found], [one.status for one in found], [one.error for one in found]]
        storage.write_table(label_url(shard, labels), pa.table([table["id"], *columns], schema=LABEL_SCHEMA))
    return labels


def _same(shards: Sequence[str], ours: str, plain: str) -> bool:
    urls = ((label_url(shard, ours), label_url(shard, plain)) for shard in shards)
    return all(storage.read_table(left).equals(storage.read_table(right)) for left, right in urls)


def _write(root: str) -> list[str]:
    rng, words = np.random.default_rng(0), pa.array([f"w{word}" for word in range(DIFFERENT)])
    offsets = pa.array(np.arange(0, SHARD_ROWS * WORDS + 1, WORDS, dtype=np.int32))
    same = {"audio": b"", "duration": 1.0, "lang": "en", "speaker": "", "group": "", "translations": []}
    rest = pa.Table.from_pylist([{"id": "", "text": "", **same}] * SHARD_ROWS, SHARD_SCHEMA)
    urls = []
    for number in range(ROWS // SHARD_ROWS):
        chosen = words.take(pa.array(rng.integers(0, DIFFERENT, SHARD_ROWS * WORDS)))
        texts = pc.binary_join(pa.ListArray.from_arrays(offsets, chosen), " ")
        table = rest.set_column(rest.column_names.index("text"), SHARD_SCHEMA.field("text"), texts)
        ids = pa.array([f"{number}-{row}" for row in range(SHARD_ROWS)])
        url = storage.join(root, "shards", "train", f"shard-{number:05d}.parquet")
        table = table.set_column(rest.column_names.index("id"), SHARD_SCHEMA.field("id"), ids)
        storage.write_table(url, table, row_group_size=32)
        urls.append(url)
    return urls
