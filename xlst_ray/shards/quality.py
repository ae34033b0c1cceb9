"""Estimates of the quality of labels, in files beside them: `<labels>/quality/<split>/shard-00000.parquet`.

A stage of its own, for what makes them is a model that takes time and may be another tomorrow. Same rows in the same
order as the label file; null where a row has no label or the model could not read it.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.shards.files import label_url

FOLDER: Final = "quality"
SCHEMA: Final = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("quality", pa.float32())])


def has_quality(labels: str) -> bool:
    """Whether a label folder has finished estimates."""
    return storage.exists(storage.join(labels, FOLDER, "manifest.json"))


def write_quality(shard: str, labels: str, ids: Sequence[str], scores: pa.Array) -> None:
    """Write the estimates of a shard's rows, unless they are there."""
    url = _url(shard, labels)
    if not storage.exists(url):
        storage.write_table(url, pa.table([pa.array(ids, pa.string()), scores], schema=SCHEMA))


def read_quality(shard: str, labels: str, ids: Sequence[str]) -> pa.ChunkedArray:
    """The estimates of a shard's rows, null for none.

    Raises:
        DataError: missing, or out of step with the shard.
    """
    table = storage.read_table(_url(shard, labels), SCHEMA.names)
    if table["id"].to_pylist() != list(ids):
        hint = f"delete {labels}/{FOLDER} and run jobs/pseudo_label.py again"
        raise DataError(f"is out of step with {shard}", where=_url(shard, labels), hint=hint)
    return table["quality"]


def _url(shard: str, labels: str) -> str:
    return label_url(shard, storage.join(labels, FOLDER))
