"""Reading shard folders: which shards there are, their columns, and the label file that belongs to each."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS


def shard_name(index: int) -> str:
    return f"shard-{index:05d}.parquet"


def shard_urls(folder: str, split: str) -> list[str]:
    """The shards of a split in order.

    Raises:
        DataError: none there.
    """
    urls = storage.list_files(storage.join(folder, split), ".parquet")
    if not urls:
        present = [name for name in SPLITS if storage.list_files(storage.join(folder, name), ".parquet")]
        raise DataError(f"has no shards of the split {split}", where=folder, hint=_how_to_get(split, present))
    return urls


def _how_to_get(split: str, present: Sequence[str]) -> str:
    if not present:
        return "make shards with jobs/prepare.py"
    parts = ", ".join(f"{name}: ..." for name in (*present, split))
    return f"it has {', '.join(present)}: run jobs/prepare.py with corpus.splits={{{parts}}}, the corpus' own names"


def label_url(shard_url: str, labels_folder: str) -> str:
    """The label file of a shard: the same split and name below the labels folder."""
    split, name = shard_url.split("/")[-2:]
    return storage.join(labels_folder, split, name)


def read_shard(url: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a shard; audio is not read unless it is named."""
    return storage.read_table(url, list(columns))


def read_labels(shard_url: str, labels_folder: str, ids: Sequence[str]) -> pa.Table:
    """The label file of a shard, checked to have the shard's rows in the shard's order.

    Raises:
        DataError: missing, or out of step with its shard.
    """
    url = label_url(shard_url, labels_folder)
    table = storage.read_table(url)
    if table["id"].to_pylist() != list(ids):
        raise DataError(
            f"is out of step with {shard_url}",
            where=url,
            hint=f"delete it and {labels_folder}/manifest.json, and run jobs/pseudo_label.py again",
        )
    return table


def iter_texts(folder: str, split: str) -> Iterator[str]:
    """The transcripts of a split, shard by shard, as the corpus has them."""
    for url in shard_urls(folder, split):
        yield from read_shard(url, ["text"])["text"].to_pylist()
