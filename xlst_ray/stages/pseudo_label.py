"""Shards -> label files beside them: every distinct sentence translated once, by a pool of engines."""

from functools import partial
from typing import Any

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError
from xlst_ray.mt.engines import open_translator
from xlst_ray.mt.labels import assemble_labels, bucket_urls, human_labels, sum_counts, translate_bucket, write_buckets
from xlst_ray.mt.options import EngineOptions
from xlst_ray.progress import say
from xlst_ray.shards.files import shard_urls
from xlst_ray.stages.stage import Stage


class LabelOptions(Section):
    """What translates, and in which portions."""

    engine: EngineOptions = option(EngineOptions, "the engine")
    buckets: int = option(16, "portions of the distinct sentences: the unit of work and of resume", ge=1)


def describe_labels(name: str, options: LabelOptions, source: str, target: str, shards_fingerprint: str) -> Stage:
    """The stage of a label set: engine, limits, content of the model, and the shards."""
    config = {"engine": options.engine.label_config(), "source": source, "target": target}
    inputs = {"shards": shards_fingerprint, "engine": options.engine.content_fingerprint(source, target)}
    return Stage(f"labels-{name}", config, inputs)


def pseudo_label(
    options: LabelOptions,
    shards: str,
    splits: tuple[str, ...],
    source: str,
    target: str,
    folder: str,
    cluster: ClusterOptions,
) -> dict[str, Any]:
    """Write label files for the splits of a shard folder, going on from what is there; returns counts.

    Raises:
        ConfigError: the engine does not translate into the target language.
        DataError: not one sentence got a translation.
    """
    title = f"translate {source}-{target} ({options.engine.engine})"
    counts: dict[str, Any] = {}
    if options.engine.engine == "human":
        label = partial(_human, folder, target)
    else:
        open_translator(options.engine, source, target)  # what it cannot do is said here, before work is sent out
        counts["distinct"] = write_buckets(shards, splits, folder, options.buckets)
        translate = partial(_translator, options.engine, source, target)
        for _ in map_items(
            title,
            "buckets",
            translate,
            bucket_urls(folder),
            cluster,
            pool=cluster.translators,
            cpus=cluster.translator_cpus,
            gpus=cluster.translator_gpus,
        ):
            pass
        label = partial(_assembler, folder)
    urls = [url for split in splits for url in shard_urls(shards, split)]
    total = sum_counts(map_items(f"{title}, label files", "shards", label, urls, cluster))
    reasons = ", ".join(f"{number} {reason}" for reason, number in total["reasons"].items()) or "none"
    say(f"{title}: {total['ok']} of {total['rows']} rows have a label; without: {reasons}")
    if total["ok"] == 0:
        raise DataError(
            f"no sentence has a translation into {target} ({reasons})",
            where=shards,
            hint="has the corpus translations, and does the engine speak these languages?",
        )
    return {**counts, **total}


def _translator(options: EngineOptions, source: str, target: str) -> Work:
    translator = open_translator(options, source, target)
    return lambda url: translate_bucket(url, translator)


def _assembler(folder: str) -> Work:
    return lambda url: assemble_labels(url, folder)


def _human(folder: str, target: str) -> Work:
    return lambda url: human_labels(url, folder, target)
