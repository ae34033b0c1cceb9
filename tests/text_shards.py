"""Shards that hold transcripts and no audio, and the labels that come of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xlst_ray import storage
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.stage import Stage, StageResult, run_stage


def write_text_shards(folder: Path | str, texts: Sequence[Sequence[str]]) -> StageResult:
    """English train shards with these transcripts; a row's id is `<shard>-<row>`."""

    def work(out: str) -> dict[str, Any]:
        for number, shard in enumerate(texts):
            rows = [
                {"id": f"{number}-{row}", "audio": b"", "duration": 1.0, "text": text, "lang": "en", "speaker": "",
                 "group": "", "translations": []}
                for row, text in enumerate(shard)
            ]  # fmt: skip
            storage.write_table(f"{out}/train/shard-{number:05d}.parquet", pa.Table.from_pylist(rows, SHARD_SCHEMA))
        return {"train": {"kept": sum(map(len, texts))}}

    stage = Stage("prepare-en", {"corpus": {"reader": "manifest", "lang": "en"}}, {"corpus": json.dumps(texts)})
    return run_stage(stage, str(folder), work)


def read_labels(folder: Path) -> dict[str, dict[str, Any]]:
    """Label rows by id, each row seen to be there once."""
    rows = [row for path in sorted(folder.glob("train/*.parquet")) for row in pq.read_table(path).to_pylist()]
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found
