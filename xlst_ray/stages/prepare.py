"""Corpus -> shards: plan the shards, then decode and write each of them somewhere on the cluster."""

from functools import partial
from typing import Any

from xlst_ray.audio.decode import DECODER
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.config import Section, option
from xlst_ray.corpora.convert import convert_shard, plan_shards, sum_counts
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.progress import say
from xlst_ray.shards.options import ShardOptions
from xlst_ray.stages.stage import Stage


class PrepareOptions(Section):
    """A corpus, and how its shards are made."""

    corpus: CorpusOptions = option(..., "the corpus to read")
    shards: ShardOptions = option(ShardOptions, "size of shards, limits of utterances")


def describe_prepare(options: PrepareOptions) -> Stage:
    """The stage of a corpus: the same content at another path is the same stage."""
    config = options.resolved()
    del config["corpus"]["path"]
    inputs = {"corpus": open_corpus(options.corpus).fingerprint()}
    return Stage(f"prepare-{options.corpus.lang}", config, inputs)


def prepare(options: PrepareOptions, folder: str, cluster: ClusterOptions) -> dict[str, Any]:
    """Write the shards of every split below `folder`, going on from what is there; returns counts by split.

    Raises:
        DataError: the corpus cannot be read, or nothing of it can be used.
    """
    title = f"prepare {options.corpus.lang}"
    plans = plan_shards(open_corpus(options.corpus), folder, options.shards, options.corpus.path)
    work = partial(_converter, folder, options.shards)
    results = list(map_items(title, "shards", work, plans, cluster))
    counts = {
        split: sum_counts(result["counts"] for result in results if result["split"] == split)
        for split in dict.fromkeys(
            result["split"] for result in sorted(results, key=lambda r: _ORDER.index(r["split"]))
        )
    }
    for split, count in counts.items():
        rejected = ", ".join(f"{number} {reason}" for reason, number in count["rejected"].items()) or "none"
        say(
            f"{title}: {split} {count['kept']} of {count['rows']} utterances, {count['seconds'] / 3600:.2f} h; "
            f"rejected: {rejected}"
        )
    if not any(count["kept"] for count in counts.values()):
        raise DataError(
            "no utterance of the corpus can be used",
            where=options.corpus.path or options.corpus.reader,
            hint=f"the reasons stand in {folder}/<split>/*.rejected.jsonl",
        )
    return {**counts, "decoder": DECODER}


_ORDER = ("train", "dev", "test")


def _converter(folder: str, options: ShardOptions) -> Work:
    def convert(plan_url: str) -> dict[str, Any]:
        split = plan_url.rpartition("/")[2].partition("-")[0]
        return {"split": split, "counts": convert_shard(plan_url, folder, options)}

    return convert
