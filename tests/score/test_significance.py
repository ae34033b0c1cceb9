import numpy as np
import pytest

from xlst_ray.errors import DataError
from xlst_ray.score.errors import ErrorCounts, rate
from xlst_ray.score.options import ScoreOptions
from xlst_ray.score.significance import over_seeds, paired_p_value, rate_interval

OPTIONS = ScoreOptions()


def utterances(probability: float, count: int, seed: int, words: int = 10) -> list[ErrorCounts]:
    errors = np.random.default_rng(seed).binomial(words, probability, size=count)
    return [ErrorCounts(substitutions=int(n), reference=words) for n in errors]


def names(count: int, size: int) -> list[str]:
    return [f"scene-{place // size}" for place in range(count)]


def test_interval_is_the_analytic_one_where_words_err_independently() -> None:
    """300 utterances of 10 words, p = 0.3: the standard error of the rate is sqrt(p q / 3000)."""
    counts = utterances(0.3, 300, seed=1)
    interval = rate_interval(counts, [""] * 300, OPTIONS)
    half = 1.96 * 100 * (0.3 * 0.7 / 3000) ** 0.5
    assert interval.low == pytest.approx(rate(counts) - half, abs=0.35)
    assert interval.high == pytest.approx(rate(counts) + half, abs=0.35)
    assert interval.blocks == "300 utterances"


def test_coverage_over_many_test_sets() -> None:
    options = ScoreOptions(resamples=300)
    covered = 0
    for seed in range(200):
        interval = rate_interval(utterances(0.3, 60, seed), [""] * 60, options)
        covered += interval.low <= 30 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_utterances_that_err_together_widen_the_interval() -> None:
    """Ten copies of an utterance in a block tell no more than one: sqrt(10) times the naive width."""
    counts = [count for count in utterances(0.3, 50, seed=2) for _ in range(10)]
    blocked = rate_interval(counts, names(500, 10), OPTIONS)
    naive = rate_interval(counts, [""] * 500, OPTIONS)
    assert blocked.blocks == "50 groups"
    ratio = (blocked.high - blocked.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(10**0.5, rel=0.1)


def test_confidence_sets_the_width() -> None:
    counts = utterances(0.3, 200, seed=3)
    narrow = rate_interval(counts, [""] * 200, ScoreOptions(confidence=0.5))
    wide = rate_interval(counts, [""] * 200, OPTIONS)
    assert wide.low < narrow.low < rate(counts) < narrow.high < wide.high


def test_same_seed_same_interval() -> None:
    counts = utterances(0.3, 100, seed=4)
    assert rate_interval(counts, names(100, 5), OPTIONS) == rate_interval(counts, names(100, 5), OPTIONS)
    assert rate_interval(counts, names(100, 5), OPTIONS) != rate_interval(counts, names(100, 5), ScoreOptions(seed=2))


def test_one_block_falls_back_on_utterances() -> None:
    counts = utterances(0.3, 40, seed=5)
    one = rate_interval(counts, ["scene"] * 40, OPTIONS)
    assert one == rate_interval(counts, [""] * 40, OPTIONS)
    assert one.blocks == "40 utterances"


def test_utterances_without_a_group_are_blocks_of_their_own() -> None:
    assert rate_interval(utterances(0.3, 4, seed=6), ["a", "a", "", ""], OPTIONS).blocks == "3 groups"


def test_many_blocks_in_bounded_memory_give_one_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = utterances(0.3, 100, seed=7)
    whole = rate_interval(counts, [""] * 100, OPTIONS)
    monkeypatch.setattr("xlst_ray.score.significance._CELLS_AT_ONCE", 350)
    assert rate_interval(counts, [""] * 100, OPTIONS) == whole


def test_identical_systems() -> None:
    counts = utterances(0.3, 100, seed=8)
    assert paired_p_value(counts, counts, [""] * 100, OPTIONS) == 1.0


def test_clearly_different_systems() -> None:
    worse, better = utterances(0.5, 200, seed=9), utterances(0.3, 200, seed=10)
    p = paired_p_value(better, worse, names(200, 5), OPTIONS)
    assert p == pytest.approx(2 / 2001)
    assert paired_p_value(worse, better, names(200, 5), OPTIONS) == p


def test_false_alarms_are_as_rare_as_p_says() -> None:
    options = ScoreOptions(resamples=300)
    p_values = [
        paired_p_value(utterances(0.3, 60, 2 * seed), utterances(0.3, 60, 2 * seed + 1), [""] * 60, options)
        for seed in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10
    assert 0.4 <= np.mean(np.array(p_values) < 0.5) <= 0.6


def test_pairing_sees_a_small_difference_that_intervals_hide() -> None:
    """One error less in each tenth utterance: intervals overlap widely, but no resample has the other sign."""
    one = utterances(0.5, 200, seed=11)
    other = [
        ErrorCounts(max(0, count.substitutions - (place % 10 == 0)), 0, 0, count.reference)
        for place, count in enumerate(one)
    ]
    blocks = names(200, 10)
    first, second = rate_interval(one, blocks, OPTIONS), rate_interval(other, blocks, OPTIONS)
    assert first.low < second.high
    assert paired_p_value(other, one, blocks, OPTIONS) < 0.01


def test_one_bad_block_is_no_evidence() -> None:
    """All of the difference lies in one of ten scenes."""
    one = [ErrorCounts(2, 0, 0, 10) for _ in range(100)]
    other = [ErrorCounts(9 if place < 10 else 2, 0, 0, 10) for place in range(100)]
    assert paired_p_value(one, other, names(100, 10), OPTIONS) > 0.3
    assert paired_p_value(one, other, [""] * 100, OPTIONS) < 0.01


def test_empty_references() -> None:
    """A quarter of the resamples of these two has no reference at all, and so no rate."""
    counts = [ErrorCounts(0, 0, 3, 0), ErrorCounts(2, 0, 0, 10)]
    interval = rate_interval(counts, ["", ""], OPTIONS)
    assert (interval.low, interval.high) == (pytest.approx(20), pytest.approx(50))
    with pytest.raises(DataError, match="no reference"):
        rate_interval(counts[:1], [""], OPTIONS)


def test_misuse() -> None:
    counts = utterances(0.3, 3, seed=13)
    with pytest.raises(ValueError, match="block names"):
        rate_interval(counts, ["a"], OPTIONS)
    with pytest.raises(ValueError, match="same utterances"):
        paired_p_value(counts, counts[:2], ["a"] * 3, OPTIONS)


def test_over_seeds() -> None:
    spread = over_seeds([50.0, 52.0, 54.0])
    assert (spread.mean, spread.deviation, spread.seeds) == (52.0, pytest.approx(2.0), 3)
    assert over_seeds([50.0]).deviation is None
