"""Labels -> estimates of their quality beside them, by a model that reads each distinct pair once."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, do_items, map_items
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.labels import answer
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translator
from xlst_ray.mt.quality import QualityOptions, assemble_quality, quality_fingerprint, read_pairs, sum_quality
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.quality import FOLDER
from xlst_ray.stages.source_texts import prepare_texts, tasks
from xlst_ray.stages.stage import Stage, StageResult, find_finished, fingerprint, replace_other, run_stage
from xlst_ray.stages.translate import Wanted, translate

QUALITY_VERSION = 1  # raised when what models are given changes
UNIT = "pairs"


def find_quality(labels: StageResult) -> StageResult | None:
    """The finished estimates of these labels; none where there are none, or labels have changed since."""
    found = find_finished(storage.join(labels.folder, FOLDER))
    return found if found is not None and found.config == _described(labels) else None


def estimate_quality(
    source: StageResult,
    urls: Sequence[str],
    labels: StageResult,
    options: QualityOptions,
    cache_folder: str,
    cluster: ClusterOptions,
) -> StageResult:
    """Estimate every label of some shards, unless that is done. Those of another model, or of labels that another
    attempt has changed since, give way: what each model has found stays in `cache_folder`.

    Raises:
        ConfigError: the folder of the model is not that of one that estimates quality.
        DataError: a file of it is damaged.
    """
    folder = storage.join(labels.folder, FOLDER)
    model = quality_fingerprint(options.path or "")
    stage = Stage("quality", _described(labels), {"model": model}, version=QUALITY_VERSION)
    replace_other(stage, folder)

    def work(_: str) -> dict[str, Any]:
        title = f"estimate quality {source.config['corpus']['lang']}-{labels.config['target']}"
        rows, temporary = int(labels.counts["rows"]), storage.join(folder, "answers")
        read = partial(read_pairs, labels=labels.folder)
        texts, groups = prepare_texts(source, urls, rows, None, temporary, cluster, read, UNIT)
        kept = Translations(storage.join(cache_folder, f"quality-{fingerprint([QUALITY_VERSION, model])}"))
        about = {"quality": model, "version": QUALITY_VERSION}
        wanted = Wanted(title, str(labels.config["target"]), kept, stage.fingerprint, unit=UNIT, about=about)
        engine = partial(_open, options, cluster.translate_on_gpu)
        (counts,) = translate(texts, [wanted], engine, PriceOptions(), _pool(cluster))
        pool, items = tasks(cluster), list(enumerate(groups))
        answers = partial(_answerer, texts, kept, folder)
        blocks = list(range(texts.blocks))
        do_items(f"{title}, answers", "blocks", answers, blocks, cluster, pool=pool, folder=folder)
        assembler = partial(_assembler, texts, labels.folder)
        parts = list(map_items(f"{title}, files", "groups", assembler, items, cluster, pool=pool, folder=folder))
        return {**sum_quality(parts), "estimation": counts}

    return run_stage(stage, folder, work)


def _described(labels: StageResult) -> dict[str, str]:
    return {"labels": labels.fingerprint, "content": str(labels.counts.get("content"))}


def _pool(cluster: ClusterOptions) -> ClusterOptions:
    """The processors and GPUs of the translators, a process for each GPU: these models need no more."""
    shares = cluster.translator_shares
    return cluster.replace(
        translators=cluster.translators * shares,
        translator_gpus=min(1.0, cluster.translator_gpus),
    )


def _open(options: QualityOptions, gpu: bool, _: str) -> Translator:
    from xlst_ray.mt.quality_model import QualityModel  # here, for transformers takes seconds to import

    return QualityModel(options, gpu=gpu)


def _answerer(texts: SourceTexts, kept: Translations, folder: str) -> Work:
    return lambda block: answer(texts, block, kept, folder, 0)


def _assembler(texts: SourceTexts, labels: str) -> Work:
    return lambda item: assemble_quality(texts, item[0], item[1], labels)
