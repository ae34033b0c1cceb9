"""Scores of labels, in files beside them: `<labels>/scores/<split>/shard-00000.parquet`, a stage of its own.

Same rows in the same order as the label file; null where a row has no translation or a filter has nothing to say.
What a model estimates lies apart (`xlst_ray.shards.quality`) and is read with them.
Which rows the scores refuse is computed at reading, by thresholds: changing one translates nothing again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.shards.files import label_url, read_labels, read_shard
from xlst_ray.shards.quality import has_quality, read_quality
from xlst_ray.text.keep import FILTERED, QUALITY, KeepOptions, refusals

FOLDER: Final = "scores"
SCHEMA: Final = pa.schema(
    [pa.field("id", pa.string(), nullable=False), *(pa.field(name, pa.float32()) for name in FILTERED)]
)
HINT: Final = "make them with jobs/pseudo_label.py, by the command that made the labels"


def scores_url(shard: str, labels: str) -> str:
    """The score file of a shard's labels."""
    return label_url(shard, storage.join(labels, FOLDER))


def read_scores(shard: str, labels: str, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """The scores of a shard's labels by name, (N,) each, NaN for none; `quality` among them where it was estimated.

    Raises:
        DataError: missing, or out of step with the shard.
    """
    url = scores_url(shard, labels)
    if not storage.exists(url):
        raise DataError("the labels have no scores to choose by", where=url, hint=HINT)
    table = storage.read_table(url, SCHEMA.names)
    if table["id"].to_pylist() != list(ids):
        raise DataError(f"is out of step with {shard}", where=url, hint=f"delete {labels}/{FOLDER} and make them again")
    found = {name: table[name].to_numpy().astype(np.float64) for name in FILTERED}
    if has_quality(labels):
        found[QUALITY] = read_quality(shard, labels, ids).to_numpy().astype(np.float64)
    return found


def read_refusals(shard: str, labels: str, ids: Sequence[str], keep: KeepOptions) -> list[str | None]:
    """For each row of a shard the score that refuses its label, or none.

    Raises:
        DataError: the labels have no scores, or no estimates of their quality where a threshold asks for them.
    """
    refuse_without_quality(labels, keep)
    url = storage.join(labels, FOLDER, "manifest.json")
    if not storage.exists(url):
        raise DataError("the labels have no scores to choose by", where=url, hint=HINT)
    median = float(storage.read_json(url)["counts"]["median_length_ratio"])
    return list(refusals(read_scores(shard, labels, ids), keep, median))


def refuse_without_quality(labels: str, keep: KeepOptions) -> None:
    """Raises `DataError` where a threshold asks for estimates that labels have not."""
    if keep.quality is not None and not has_quality(labels):
        raise DataError(
            "the labels have no estimates of their quality, and keep.quality is a threshold on them",
            where=labels,
            hint="name a model, quality.path, in the command that made the labels: it adds them; or leave keep.quality",
        )


def iter_translations(urls: Iterable[str], labels: str, keep: KeepOptions | None) -> Iterator[str]:
    """The labels of some shards that are trained on: those that are usable and, with `keep`, not refused.

    Raises:
        DataError: labels are missing or out of step, or thresholds are given and there are no scores.
    """
    for url in urls:
        ids = read_shard(url, ["id"])["id"].to_pylist()
        table = read_labels(url, labels, ids)
        refused = [None] * len(ids) if keep is None else read_refusals(url, labels, ids, keep)
        rows = zip(table["translation"].to_pylist(), table["status"].to_pylist(), refused, strict=True)
        yield from (text for text, status, reason in rows if status == "ok" and reason is None)
