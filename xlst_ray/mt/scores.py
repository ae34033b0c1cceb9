"""Scoring a label set's translations (`xlst_ray.shards.scores`), and a review of what thresholds make of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict

import numpy as np
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.shards.files import read_labels, read_shard
from xlst_ray.shards.scores import SCHEMA, read_scores, scores_url
from xlst_ray.text.filters import FILTERS
from xlst_ray.text.keep import FILTERED, KeepOptions, refusals
from xlst_ray.text.language_id import language_probability

RATIO_EDGES: Final = np.linspace(-6, 6, 481)  # of log2 of the length ratio: its median is known to 1.7 %
BINS: Final = 24
SAMPLES: Final = 8  # kept and refused rows of each reason that a part of the review brings
MOST_SAMPLES: Final = 16  # of them in all
MOST_PAIRS: Final = 10_000  # with human translations in all: a sample, for BLEU of millions takes hours


class Review(TypedDict):
    """Rows by what became of them (`kept`, `no label`, or the score that refused them); counts of each score's values
    in its bins; sampled rows (id, source, translation, what became of it); pairs of (label, human translation)."""

    rows: dict[str, int]
    bins: dict[str, list[int]]
    samples: list[tuple[str, str, str, str]]
    pairs: list[tuple[str, str]]


def score_labels(shards: Sequence[str], labels: str, source: str, target: str) -> list[int]:
    """Write the score files of some shards, unless they are there; returns their length ratios counted by
    `RATIO_EDGES`. Stock outputs are counted within these shards."""
    rows = [(shard, *_texts(shard, labels)) for shard in shards]
    sources: dict[str, set[str]] = defaultdict(set)
    for _, _, texts, translations in rows:
        for text, translation in zip(texts, translations, strict=True):
            if translation is not None:
                sources[translation].add(text)
    ratios = np.zeros(len(RATIO_EDGES) - 1, dtype=np.int64)
    known: dict[tuple[str, str], list[float | None]] = {}
    for shard, ids, texts, translations in rows:
        url = scores_url(shard, labels)
        if not storage.exists(url):
            table: list[list[float | None]] = []
            for text, translation in zip(texts, translations, strict=True):
                if translation is None:
                    table.append([None] * len(FILTERED))
                    continue
                pair = text, translation
                if pair not in known:
                    known[pair] = _scores(text, translation, len(sources[translation]), source, target)
                table.append(known[pair])
            columns = [pa.array(column, pa.float32()) for column in zip(*table, strict=True)]
            storage.write_table(url, pa.table([pa.array(ids), *columns], schema=SCHEMA))
        found = np.log2(np.maximum(read_scores(shard, labels, ids)["length_ratio"], 2.0**-6))
        ratios += np.histogram(found[~np.isnan(found)], RATIO_EDGES)[0]
    return [int(count) for count in ratios]


def median_ratio(counts: Sequence[int]) -> float:
    """The median of the length ratios that were counted by `RATIO_EDGES`; 1 where there are none."""
    total = np.cumsum(counts)
    if total[-1] == 0:
        return 1.0
    place = int(np.searchsorted(total, total[-1] / 2))
    return float(2 ** ((RATIO_EDGES[place] + RATIO_EDGES[place + 1]) / 2))


def review_labels(
    shards: Sequence[str],
    labels: str,
    target: str,
    keep: KeepOptions,
    median: float,
    edges: Mapping[str, list[float]],
    paired: Sequence[str],
) -> Review:
    """What thresholds make of the labels of some shards.

    Args:
        median: length ratio of the whole label set.
        edges: of the bins by score, of those that are there.
        paired: those of the shards that give pairs.
    """
    review: Review = {"rows": defaultdict(int), "bins": {}, "samples": [], "pairs": []}
    bins = {name: np.zeros(len(edges[name]) - 1, dtype=np.int64) for name in edges}
    shown: dict[str, int] = defaultdict(int)
    for shard in shards:
        ids, texts, translations = _texts(shard, labels)
        scores = read_scores(shard, labels, ids)
        reasons = refusals(scores, keep, median)
        for name in edges:
            values = scores[name][~np.isnan(scores[name])]
            bins[name] += np.histogram(np.clip(values, edges[name][0], edges[name][-1]), edges[name])[0]
        for row, translation in enumerate(translations):
            fate = "no label" if translation is None else reasons[row] or "kept"
            review["rows"][fate] += 1
            if translation is not None and shown[fate] < SAMPLES:
                shown[fate] += 1
                review["samples"].append((ids[row], texts[row], translation, fate))
        if shard in paired:
            review["pairs"] += _human_pairs(shard, target, translations)
    review["bins"] = {name: [int(count) for count in counts] for name, counts in bins.items()}
    return review


def sum_reviews(parts: Iterable[Review]) -> Review:
    """The reviews of several parts together, one after the other: samples and pairs up to a number, all else summed."""
    total: Review = {"rows": Counter(), "bins": {}, "samples": [], "pairs": []}
    shown: Counter[str] = Counter()
    for part in parts:
        for fate, number in part["rows"].items():
            total["rows"][fate] += number
        for name, counts in part["bins"].items():
            before = total["bins"].get(name, [0] * len(counts))
            total["bins"][name] = [one + other for one, other in zip(before, counts, strict=True)]
        for sample in part["samples"]:
            shown[sample[-1]] += 1
            if shown[sample[-1]] <= MOST_SAMPLES:
                total["samples"].append(sample)
        total["pairs"] += part["pairs"][: MOST_PAIRS - len(total["pairs"])]
    return total


def _texts(shard: str, labels: str) -> tuple[list[str], list[str], list[str | None]]:
    """(ids, transcripts, translations or none) of a shard."""
    table = read_shard(shard, ["id", "text"])
    ids = table["id"].to_pylist()
    return ids, table["text"].to_pylist(), read_labels(shard, labels, ids)["translation"].to_pylist()


def _scores(text: str, translation: str, stock: int, source: str, target: str) -> list[float | None]:
    found: dict[str, Any] = {name: function(text, translation, source, target) for name, function in FILTERS.items()}
    found |= {"language": language_probability(translation, target), "stock": float(stock)}
    return [found[name] for name in FILTERED]


def _human_pairs(shard: str, target: str, translations: Sequence[str | None]) -> Iterator[tuple[str, str]]:
    """(label, human translation) of the first rows of a shard that have both."""
    humans = read_shard(shard, ["translations"])["translations"].to_pylist()
    pairs = ((label, dict(human).get(target)) for label, human in zip(translations, humans, strict=True))
    both = [(label, human) for label, human in pairs if label and human]
    yield from both[:SAMPLES]
