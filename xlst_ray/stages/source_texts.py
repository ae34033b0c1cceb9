"""The transcripts of shards as distinct sentences in buckets, made on the cluster."""

from collections.abc import Sequence
from functools import partial

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, do_items, map_items
from xlst_ray.errors import DataError
from xlst_ray.mt.buckets import Read, SourceTexts, buckets_for, group_shards, transcripts
from xlst_ray.stages.stage import StageResult, fingerprint

TEXTS_VERSION = 1  # raised when the files of `SourceTexts` change


def prepare_texts(
    shards: StageResult,
    urls: Sequence[str],
    rows: int,
    buckets: int | None,
    folder: str,
    cluster: ClusterOptions,
    read: Read = transcripts,
    unit: str = "sentences",
) -> tuple[SourceTexts, list[list[str]]]:
    """The sentences of some shards in buckets below a folder, and the groups of those shards.

    They depend on the shards alone: every target language, engine and later run reads the same.

    Args:
        read, unit: what is read of each shard in their place, and what that is called.

    Raises:
        DataError: no row has a transcript.
    """
    groups, count = group_shards(urls, rows), buckets or buckets_for(rows)
    inside = [url.rpartition(f"{shards.folder}/")[2] for url in urls]
    name = f"texts-{fingerprint([shards.fingerprint, inside, rows, count, TEXTS_VERSION])}"
    texts = SourceTexts(storage.join(folder, name), rows, len(groups), count)
    if texts.counts is None:
        blocks, pool = list(range(texts.blocks)), tasks(cluster)
        split, items = partial(_splitter, texts, read), list(enumerate(groups))
        do_items(f"read {unit}", "groups", split, items, cluster, pool=pool, folder=folder)
        do_items(f"gather {unit}", "blocks", partial(_gatherer, texts), blocks, cluster, pool=pool)
        parts = list(map_items(f"count {unit}", "blocks", partial(_counter, texts), blocks, cluster, pool=pool))
        texts.complete({name: sum(part[name] for part in parts) for name in ("distinct", "characters")})
    if not (texts.counts or {}).get("distinct"):
        raise DataError(
            f"no transcript in {rows} rows: there is nothing to translate",
            where=shards.folder,
            hint="was the corpus prepared with its transcripts?",
        )
    return texts, groups


def _splitter(texts: SourceTexts, read: Read) -> Work:
    return lambda item: texts.split(item[0], item[1], read)


def _gatherer(texts: SourceTexts) -> Work:
    return texts.gather


def _counter(texts: SourceTexts) -> Work:
    return texts.count


def tasks(cluster: ClusterOptions) -> int | None:
    """The `pool` of work that needs no engine: tasks of the cluster, or this process where that translates, too."""
    return None if cluster.translators else 0
