"""How good a translation is, estimated without a reference: the options, the pairs, and files of estimates.

To those who run it an estimator is an engine like any other (`xlst_ray.mt.quality_model`), which reads a pair and
writes a number: so each distinct pair is estimated once, also over runs, and what a kill has left is found again.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import ConfigError
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.labels import answers_of
from xlst_ray.mt.options import file_fingerprint
from xlst_ray.mt.protocol import tidy
from xlst_ray.shards.files import read_labels, read_shard
from xlst_ray.shards.quality import FOLDER, write_quality

HINT: Final = "give the folder of a model such as TransQuest/monotransquest-da-multilingual, as its hub has it"


class QualityOptions(Section):
    """The model that estimates the quality of translations, on the processes that translate."""

    path: Url | None = option(
        None,
        "folder of a model that reads (sentence, translation) and has one output, higher for better: transformers' "
        "sequence classification, such as MonoTransQuest; none: no estimation",
    )
    batch_size: int = option(64, "pairs read together", ge=1, unit="pairs")

    def check(self) -> None:
        """Raises `ConfigError` where a path is not that of a model of sequence classification with one output."""
        if self.path is not None:
            refuse_other_models(self.path)


def quality_fingerprint(path: str) -> str:
    """12 hexadecimal digits over the content of a model's folder.

    Raises:
        ConfigError: it is not that of a model of sequence classification with one output.
    """
    refuse_other_models(path)
    digest = hashlib.sha256()
    for url in storage.list_files(path):
        digest.update(f"{file_fingerprint(url)}\n".encode())
    return digest.hexdigest()[:12]


def refuse_other_models(path: str) -> None:
    """Raises `ConfigError` unless a folder's config.json is that of sequence classification with one output."""
    url = storage.join(path, "config.json")
    if not storage.exists(url):
        raise ConfigError("is no folder of a model: it has no config.json", where=f"quality.path={path}", hint=HINT)
    config = storage.read_json(url)
    kinds = config.get("architectures") if isinstance(config, dict) else None
    kind = str(kinds[0]) if kinds else "no architecture"
    outputs = len(config.get("id2label") or {}) or config.get("num_labels", 2) if kinds else 0
    if not kind.endswith("ForSequenceClassification") or outputs != 1:
        found = f"{kind} with {outputs} outputs" if kind.endswith("ForSequenceClassification") else kind
        raise ConfigError(
            f"is no model of quality estimation (its config.json tells of {found}; "
            "wanted is one of sequence classification with one output)",
            where=f"quality.path={path}",
            hint=HINT,
        )


def join_pair(text: str, translation: str) -> str:
    """A pair as one string, which `tidy` leaves as it is."""
    return json.dumps([tidy(text), tidy(translation)], ensure_ascii=False)


def read_pairs(shard: str, labels: str) -> pa.ChunkedArray:
    """For each row of a shard its transcript and label as one string (`join_pair`); empty where it has no
    label."""
    table = read_shard(shard, ["id", "text"])
    translations = read_labels(shard, labels, table["id"].to_pylist())["translation"].to_pylist()
    pairs = zip(table["text"].to_pylist(), translations, strict=True)
    joined = ["" if translation is None else join_pair(text or "", translation) for text, translation in pairs]
    return pa.chunked_array([pa.array(joined, pa.string())])


def assemble_quality(texts: SourceTexts, group: int, shards: Sequence[str], labels: str) -> dict[str, Any]:
    """Write the estimates of a group's shards beside their labels; returns their number, sum, least and greatest."""
    rows, sizes = answers_of(texts, group, storage.join(labels, FOLDER), attempt=0)
    scores = pa.array([None if text is None else float(text) for text in rows["translation"].to_pylist()], pa.float32())
    begin = 0
    for shard, size in zip(shards, sizes, strict=True):
        write_quality(shard, labels, read_shard(shard, ["id"])["id"].to_pylist(), scores.slice(begin, size))
        begin += size
    there = scores.drop_null().to_pylist()
    return {"rows": len(scores), "estimated": len(there), "least": min(there, default=None),
            "greatest": max(there, default=None)}  # fmt: skip


def sum_quality(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several groups together."""

    def values(name: str) -> Iterator[Any]:
        return (part[name] for part in parts if part[name] is not None)

    return {
        "rows": sum(values("rows")),
        "estimated": sum(values("estimated")),
        "least": min(values("least"), default=None),
        "greatest": max(values("greatest"), default=None),
    }
