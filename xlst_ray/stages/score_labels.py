"""Label files -> scores beside them, and a page that shows what thresholds on the scores keep and refuse."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.mt.quality import QualityOptions
from xlst_ray.mt.scores import (
    BINS,
    MOST_PAIRS,
    RATIO_EDGES,
    SAMPLES,
    Review,
    median_ratio,
    review_labels,
    score_labels,
    sum_reviews,
)
from xlst_ray.progress import say
from xlst_ray.report.labels import LabelPage, render_labels
from xlst_ray.score.bleu import score_translations
from xlst_ray.shards.files import shard_urls
from xlst_ray.shards.quality import FOLDER as QUALITY_FOLDER
from xlst_ray.shards.schema import SPLITS
from xlst_ray.shards.scores import FOLDER, refuse_without_quality
from xlst_ray.stages.quality import estimate_quality, find_quality
from xlst_ray.stages.source_texts import tasks
from xlst_ray.stages.stage import Stage, StageResult, finished, replace_other, run_stage
from xlst_ray.text.keep import FILTERED, QUALITY, KeepOptions

SHARDS_A_PART = 16  # scored together: stock outputs are counted within them
SCORES_VERSION = 1  # raised when a filter or its library changes what it finds
PAGE = "labels.html"
LONGEST_WORD = 60.0  # the last bin of the histograms holds what is above
MOST_STOCK = 100.0


def score_and_report(
    shards: str, labels: str, keep: KeepOptions, quality: QualityOptions, cache_folder: str, cluster: ClusterOptions
) -> StageResult:
    """Score the finished labels of a shard folder, once; then write `<labels>/labels.html` by these thresholds.

    Args:
        quality: a model that estimates their quality, too; what it finds is kept in `cache_folder`.

    Raises:
        ConfigError: the folder of that model is not that of one.
        DataError: a folder is not that of a finished stage, or there is a threshold on estimates and there are none.
    """
    source, label_stage = finished(shards, "corpus"), finished(labels, "target")
    lang, target = str(source.config["corpus"]["lang"]), str(label_stage.config["target"])
    urls = [url for split in SPLITS if source.counts.get(split, {}).get("kept") for url in shard_urls(shards, split)]
    parts = [urls[start : start + SHARDS_A_PART] for start in range(0, len(urls), SHARDS_A_PART)]
    title = f"score {lang}-{target}"
    pool = tasks(cluster)

    def work(_: str) -> dict[str, Any]:
        scorer = partial(_scorer, labels, lang, target)
        counts = np.zeros(len(RATIO_EDGES) - 1, dtype=np.int64)
        for part in map_items(title, "parts", scorer, parts, cluster, pool=pool, folder=labels):
            counts += part
        return {"median_length_ratio": median_ratio(counts.tolist()), "scored": int(counts.sum())}

    stage, folder = describe_scores(label_stage), storage.join(labels, FOLDER)
    replace_other(stage, folder)  # of labels that another attempt has changed since, or by other filters
    result = run_stage(stage, folder, work)
    estimated = find_quality(label_stage)
    if quality.path is not None:
        estimated = estimate_quality(source, urls, label_stage, quality, cache_folder, cluster)
    elif estimated is None:
        storage.delete(storage.join(labels, QUALITY_FOLDER))  # of labels that another attempt has changed since
    refuse_without_quality(labels, keep)
    edges = _edges(estimated)
    reviewer = partial(_reviewer, labels, target, keep, float(result.counts["median_length_ratio"]), edges)
    review = sum_reviews(map_items(f"{title}, review", "parts", reviewer, _paired(parts), cluster, pool=pool))
    page = _page(lang, target, label_stage, result, keep, edges, review)
    storage.write_bytes(storage.join(labels, PAGE), render_labels(page).encode())
    rows = ", ".join(f"{number:,} {fate}" for fate, number in page.rows.items())
    say(f"{title}: {rows}; {storage.join(labels, PAGE)}")
    return result


def describe_scores(labels: StageResult) -> Stage:
    """The stage of the scores of a label set: what its files hold, and the filters."""
    inputs = {"labels": labels.fingerprint, "content": str(labels.counts.get("content"))}
    return Stage("scores", {"filters": list(FILTERED)}, inputs, version=SCORES_VERSION)


def _paired(parts: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], list[str]]]:
    """Each part, and which of its shards are to give pairs with human translations: evenly, for `MOST_PAIRS` in all."""
    urls = [url for part in parts for url in part]
    chosen = set(urls[:: max(1, len(urls) * SAMPLES // MOST_PAIRS)])
    return [(part, [url for url in part if url in chosen]) for part in parts]


def _page(
    lang: str,
    target: str,
    labels: StageResult,
    scores: StageResult,
    keep: KeepOptions,
    edges: dict[str, list[float]],
    review: Review,
) -> LabelPage:
    samples: dict[str, list[tuple[str, str, str]]] = {}
    for name, text, translation, fate in review["samples"]:
        samples.setdefault(fate, []).append((name, text, translation))
    pairs = review["pairs"]
    score = score_translations([human for _, human in pairs], [label for label, _ in pairs], target) if pairs else None
    median = float(scores.counts["median_length_ratio"])
    return LabelPage(
        source=lang,
        target=target,
        engine=labels.config["engine"],
        reasons=labels.counts["reasons"],
        rows=dict(Counter(review["rows"]).most_common()),
        edges=edges,
        bins=review["bins"],
        thresholds={**keep.resolved(), "length_ratio": keep.length_ratio and keep.length_ratio * median},
        samples=samples,
        score=score,
        scored_pairs=len(pairs),
        translation=labels.counts.get("translation", {}),
    )


def _edges(estimated: StageResult | None) -> dict[str, list[float]]:
    """Edges of the histograms' bins by score; those of estimates from the least to the greatest."""
    top = {"length_ratio": 4.0, "longest_word": LONGEST_WORD, "stock": MOST_STOCK}
    bounds = {name: (0.0, top.get(name, 1.0)) for name in FILTERED}
    if estimated is not None and estimated.counts["estimated"]:
        least, greatest = estimated.counts["least"], estimated.counts["greatest"]
        bounds[QUALITY] = (least, greatest if greatest > least else least + 1.0)
    return {name: np.linspace(*between, BINS + 1).tolist() for name, between in bounds.items()}


def _scorer(labels: str, source: str, target: str) -> Work:
    return lambda shards: score_labels(shards, labels, source, target)


def _reviewer(labels: str, target: str, keep: KeepOptions, median: float, edges: dict[str, list[float]]) -> Work:
    return lambda item: review_labels(item[0], labels, target, keep, median, edges, item[1])
