"""Corpus -> shards: plan the shards, then decode and write each of them somewhere on the cluster."""

from functools import partial
from typing import Any

from xlst_ray.cluster import metrics
from xlst_ray.cluster.options import TaskCluster
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.config import Section, option
from xlst_ray.corpora.convert import ShardCounts, convert_shard, plan_shards, shard_base, split_of, sum_counts
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.rejections import Rejections
from xlst_ray.errors import DataError
from xlst_ray.progress import say
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import SPLITS
from xlst_ray.stages.stage import Stage


class PrepareOptions(Section):
    """A corpus, and how its shards are made."""

    corpus: CorpusOptions = option(..., "the corpus to read")
    shards: ShardOptions = option(ShardOptions, "size of shards, limits of utterances")
    max_rejected: float = option(0.2, "stop where a greater share of the rows cannot be used", ge=0, le=1)


def describe_prepare(options: PrepareOptions) -> Stage:
    """The stage of a corpus: the same content at another path is the same stage."""
    config = options.resolved()
    del config["corpus"]["path"], config["max_rejected"]
    inputs = {"corpus": open_corpus(options.corpus).fingerprint()}
    return Stage(f"prepare-{options.corpus.lang}", config, inputs)


def prepare(options: PrepareOptions, folder: str, cluster: TaskCluster) -> dict[str, Any]:
    """Write the shards of every split below `folder`, going on from what is there; returns counts by split.

    Raises:
        DataError: the corpus cannot be read, nothing of it can be used, or more is rejected than `max_rejected` allows.
    """
    title, where = f"prepare {options.corpus.lang}", options.corpus.path or options.corpus.reader
    work, pool = partial(_converter, folder, options.shards), 0 if cluster.workers == 0 else None
    plans = plan_shards(open_corpus(options.corpus), folder, options.shards, options.corpus.path)
    in_index = Rejections(plans.rows, options.max_rejected, where)
    for url, rejected in plans.rejected.items():
        in_index.add(rejected, url)
    rejections = Rejections(plans.rows, options.max_rejected, where)
    by_split: dict[str, list[ShardCounts]] = {split: [] for split in SPLITS}
    for url, counts in map_items(title, "shards", work, plans.urls, cluster, pool=pool, folder=folder):
        _count(counts)
        rejections.add(counts["rejected"], f"{shard_base(url, folder)}.rejected.jsonl")
        by_split[split_of(url)].append(counts)
    totals = {split: sum_counts(parts) for split, parts in by_split.items() if parts}
    for split, total in totals.items():
        say(f"{title}: {split} {_describe(total)}")
    if not any(total["kept"] for total in totals.values()):
        raise DataError(
            "no utterance of the corpus can be used",
            where=where,
            hint=f"the reasons stand in {folder}/<split>/*.rejected.jsonl",
        )
    decoders = sorted({name for total in totals.values() for name in total["decoders"]})
    return {**totals, "decoder": ", ".join(decoders)}


def _count(counts: ShardCounts) -> None:
    metrics.count_rows(counts["kept"], counts["rejected"])
    metrics.count("audio_hours", counts["seconds"] / 3600)


def _describe(counts: ShardCounts) -> str:
    rejected = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items()) or "none"
    hours = counts["seconds"] / 3600
    return f"{counts['kept']} of {counts['rows']} utterances, {hours:.2f} h; rejected: {rejected}"


def _converter(folder: str, options: ShardOptions) -> Work:
    return lambda plan_url: [plan_url, convert_shard(plan_url, folder, options)]
