"""Scores beside labels, and what training makes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt.labels import human_labels
from xlst_ray.mt.scores import RATIO_EDGES, Review, median_ratio, review_labels, score_labels, sum_reviews
from xlst_ray.shards.files import shard_urls
from xlst_ray.shards.scores import iter_translations, read_refusals, read_scores, scores_url
from xlst_ray.text.keep import FILTERED, NAMES, KeepOptions

ROWS = [
    ("the old house is red", {"de": "das alte haus ist rot"}),
    ("a man walks in the street", {"de": "a man walks in the street"}),
    ("it rains all day", {}),
    ("we are going home now", {"de": "entschuldigung"}),
    ("they come tomorrow", {"de": "entschuldigung"}),
    ("yes", {"de": "ja ja ja ja ja ja ja ja ja"}),
]


@pytest.fixture
def labelled(write_shards: Callable[..., str], tmp_path: Path) -> tuple[str, str]:
    """(shard, labels folder) of the rows, with their translations as labels."""
    (url,) = shard_urls(write_shards(ROWS, lang="en"), "train")
    human_labels(url, str(tmp_path / "labels"), "de")
    return url, str(tmp_path / "labels")


def ids() -> list[str]:
    return [f"train-0-{number}" for number in range(len(ROWS))]


def test_scores_lie_beside_the_labels_row_by_row_and_are_made_once(labelled: tuple[str, str]) -> None:
    shard, labels = labelled
    counts = score_labels([shard], labels, "en", "de")
    assert sum(counts) == 5
    scores = read_scores(shard, labels, ids())
    assert all(np.isnan(scores[name][2]) for name in FILTERED)  # no label
    assert scores["copied"].tolist()[:2] == [0.0, 1.0]
    assert scores["stock"][[0, 3, 4]].tolist() == [1.0, 2.0, 2.0]
    before = storage.read_bytes(scores_url(shard, labels))
    assert score_labels([shard], labels, "en", "de") == counts
    assert storage.read_bytes(scores_url(shard, labels)) == before


def test_thresholds_refuse_at_reading(labelled: tuple[str, str]) -> None:
    shard, labels = labelled
    with pytest.raises(DataError, match="no scores to choose by"):
        read_refusals(shard, labels, ids(), KeepOptions())
    median = median_ratio(score_labels([shard], labels, "en", "de"))
    storage.write_json(f"{labels}/scores/manifest.json", {"counts": {"median_length_ratio": median}})
    only = dict.fromkeys(NAMES)
    assert read_refusals(shard, labels, ids(), KeepOptions(**only)) == [None] * 6
    strict = KeepOptions(**{**only, "copied": 0.5, "stock": 1, "repetition": 0.3})
    assert read_refusals(shard, labels, ids(), strict) == [None, "copied", None, "stock", "stock", "repetition"]
    with pytest.raises(DataError, match="out of step"):
        read_refusals(shard, labels, ids()[:-1], strict)
    assert list(iter_translations([shard], labels, strict)) == ["das alte haus ist rot"]
    assert len(list(iter_translations([shard], labels, None))) == 5


def test_the_review_counts_every_row_and_shows_some(labelled: tuple[str, str]) -> None:
    shard, labels = labelled
    median = median_ratio(score_labels([shard], labels, "en", "de"))
    edges = {name: [0.0, 0.5, 100.0] for name in FILTERED}
    keep = KeepOptions(**{**dict.fromkeys(NAMES), "copied": 0.5})
    review = review_labels([shard], labels, "de", keep, median, edges, [shard])
    assert review["rows"] == {"kept": 4, "copied": 1, "no label": 1}
    assert review["bins"]["copied"] == [4, 1]
    assert ("train-0-1", ROWS[1][0], ROWS[1][0], "copied") in review["samples"]
    assert len(review["pairs"]) == 5
    assert review_labels([shard], labels, "de", keep, median, edges, [])["pairs"] == []


def test_reviews_of_many_parts_come_to_one_of_the_size_of_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlst_ray.mt.scores.MOST_PAIRS", 5)

    def part(number: int) -> Review:
        samples = [(f"{number}-{row}", "a", "A", fate) for row in range(8) for fate in ("kept", "copied")]
        rows = {"kept": 10, "copied" if number % 2 else "no label": number}
        return {"rows": rows, "bins": {"copied": [number, 1]}, "samples": samples, "pairs": [(f"{number}", "b")] * 2}

    total = sum_reviews(part(number) for number in range(10))
    assert total["rows"] == {"kept": 100, "copied": 25, "no label": 20}
    assert total["bins"] == {"copied": [45, 10]}
    assert [name for name, _, _, fate in total["samples"] if fate == "copied"] == [
        f"{number}-{row}" for number in range(2) for row in range(8)
    ]
    assert [label for label, _ in total["pairs"]] == ["0", "0", "1", "1", "2"]
    assert sum_reviews([]) == {"rows": {}, "bins": {}, "samples": [], "pairs": []}


@pytest.mark.parametrize("ratio", [0.1, 0.97, 1.0, 3.3])
def test_the_median_ratio_is_known_within_two_percent(ratio: float) -> None:
    values = ratio * np.array([0.5, 0.9, 1.0, 1.1, 4.0])
    counts = np.histogram(np.log2(values), RATIO_EDGES)[0].tolist()
    assert median_ratio(counts) == pytest.approx(ratio, rel=0.02)
    assert median_ratio([0] * (len(RATIO_EDGES) - 1)) == 1.0
