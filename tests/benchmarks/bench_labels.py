"""Transcripts to label files with an instant engine: the plumbing alone, against a plain loop over the same Parquet.

In one process, so that processor seconds can be counted; Ray only hands these same steps to its workers. Then the job
itself, on Ray, and the memory of its processes. `LABEL_ROWS` sets the number of rows: 100,000 by default.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from harness import Row, compare
from processes import watch

from xlst_ray import storage
from xlst_ray.mt.buckets import SourceTexts, buckets_for, group_shards
from xlst_ray.mt.labels import answer, assemble_labels
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.mt.translate import translate_bucket
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.files import label_url, read_shard
from xlst_ray.shards.schema import LABEL_SCHEMA, SHARD_SCHEMA
from xlst_ray.stages.stage import Stage, run_stage

JOB = Path(__file__).parents[2] / "jobs" / "pseudo_label.py"
ROWS = int(os.environ.get("LABEL_ROWS", "100000"))
SHARD_ROWS = 500
WORDS = 10  # of a sentence
DIFFERENT = 5000
RUNS = 3 if ROWS <= 1_000_000 else 1
IN_TABLE = 10  # shards whose sentences the phrasebook of the job has: a table of all would be a process's largest part


class Instant:
    """An engine that costs nothing."""

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        return [Translation(text.upper(), "ok") for text in texts]


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as root:
        shards = _write(root)
        runs = (Path(root, "runs", str(number)) for number in range(1000))
        rows = compare(
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
        return [*rows, _job(root, shards)]


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


def _job(root: str, shards: Sequence[str]) -> Row:
    """The job with two processors, in a Ray cluster of its own; its engine looks sentences up in a small table."""
    table, labels = Path(root, "table.tsv"), Path(root, "job", "labels")
    known = list(
        dict.fromkeys(text for url in shards[:IN_TABLE] for text in read_shard(url, ["text"])["text"].to_pylist())
    )
    table.write_text("".join(f"{left}\t{right}\n" for left, right in [("en", "fi"), *((t, t.upper()) for t in known)]))
    engine = ["engine.engine=phrasebook", f"engine.table={table}", "cluster.cpus=2", "cluster.translators=1"]
    command = [sys.executable, str(JOB), f"shards={root}/shards", f"out={labels}", "target=fi", "scores=false", *engine]
    seen = watch(command, {**os.environ, "PYTHONPATH": str(JOB.parents[1])})
    counts = json.loads((labels / "manifest.json").read_text())["counts"]
    assert counts["rows"] == ROWS, counts
    assert counts["ok"] >= len(known), counts
    title = f"label plumbing, instant engine: {ROWS:,} rows in shards of {SHARD_ROWS}"
    parts = {"driver": seen.peaks("pseudo_label.py"), "largest worker": seen.peaks("ray::"), "all": seen.peaks()}
    told = "; ".join(f"{name} {early / 2**20:,.0f} and {late / 2**20:,.0f}" for name, (early, late) in parts.items())
    note = f"MiB resident at most in the first half and the second: {told}"
    return Row(title, "the job on Ray, 2 CPUs", ROWS, "rows", (seen.wall,), (seen.cpu,), note=note)


def _same(shards: Sequence[str], ours: str, plain: str) -> bool:
    urls = ((label_url(shard, ours), label_url(shard, plain)) for shard in shards)
    return all(storage.read_table(left).equals(storage.read_table(right)) for left, right in urls)


def _write(root: str) -> list[str]:
    folder = storage.join(root, "shards")
    urls = [storage.join(folder, "train", f"shard-{number:05d}.parquet") for number in range(ROWS // SHARD_ROWS)]
    rng, words = np.random.default_rng(0), pa.array([f"w{word}" for word in range(DIFFERENT)])
    offsets = pa.array(np.arange(0, SHARD_ROWS * WORDS + 1, WORDS, dtype=np.int32))
    same = {"audio": b"", "duration": 1.0, "lang": "en", "speaker": "", "group": "", "translations": []}
    rest = pa.Table.from_pylist([{"id": "", "text": "", **same}] * SHARD_ROWS, SHARD_SCHEMA)

    def work(_: str) -> dict[str, Any]:
        for number, url in enumerate(urls):
            chosen = words.take(pa.array(rng.integers(0, DIFFERENT, SHARD_ROWS * WORDS)))
            texts = pc.binary_join(pa.ListArray.from_arrays(offsets, chosen), " ")
            ids = pa.array([f"{number}-{row}" for row in range(SHARD_ROWS)])
            table = rest
            for name, column in (("text", texts), ("id", ids)):
                place = table.column_names.index(name)
                table = table.set_column(place, SHARD_SCHEMA.field(name), column)
            storage.write_table(url, table, row_group_size=32)
        return {"train": {"kept": ROWS}}

    run_stage(Stage("prepare-en", {"corpus": {"reader": "manifest", "lang": "en"}}, {"rows": str(ROWS)}), folder, work)
    return urls
