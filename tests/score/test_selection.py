"""The best of many equal systems looks better than it is, by as much as the correction says."""

import numpy as np
import pytest

from xlst_ray.score.errors import ErrorCounts
from xlst_ray.score.options import ScoreOptions
from xlst_ray.score.selection import correct_selection

OPTIONS = ScoreOptions(resamples=400, seed=3)


def counts(errors: list[int], words: int = 10) -> list[ErrorCounts]:
    return [ErrorCounts(substitutions=number, deletions=0, insertions=0, reference=words) for number in errors]


def systems(rates: list[float], utterances: int, seed: int) -> list[list[ErrorCounts]]:
    generator = np.random.default_rng(seed)
    return [counts(generator.binomial(10, rate, utterances).tolist()) for rate in rates]


def test_equal_systems_are_corrected_back_to_their_common_rate() -> None:
    """Over several sets: the winner of 20 systems of 30 % shows less, and the corrected rate is 30 % again."""
    found = [correct_selection(systems([0.3] * 20, 60, seed), [""] * 60, OPTIONS) for seed in range(8)]
    apparent, corrected = (float(np.mean([getattr(f, name) for f in found])) for name in ("apparent", "corrected"))
    assert apparent < 27.5
    assert corrected == pytest.approx(30.0, abs=0.8)
    assert all(one.optimism > 0 for one in found)


def test_a_clear_winner_is_no_luck() -> None:
    found = correct_selection(systems([0.1, 0.5, 0.6], 200, 1), [""] * 200, OPTIONS)
    assert abs(found.optimism) < 0.5
    assert (found.systems, found.blocks) == (3, "200 utterances")


def test_one_system_needs_no_correction() -> None:
    found = correct_selection(systems([0.3], 200, 1), [""] * 200, OPTIONS)
    assert abs(found.optimism) < 0.5


def test_blocks_are_drawn_whole() -> None:
    """Two utterances of one block are one utterance of twice the length."""
    ours, theirs = [10, 4, 0, 2, 0, 0, 0, 0], [0, 2, 0, 0, 0, 3, 10, 10]
    blocked = correct_selection([counts(ours), counts(theirs)], list("aabbccdd"), OPTIONS)
    merged = [
        counts([one + other for one, other in zip(row[::2], row[1::2], strict=True)], 20) for row in (ours, theirs)
    ]
    whole = correct_selection(merged, [""] * 4, OPTIONS)
    assert (blocked.apparent, blocked.corrected) == (whole.apparent, whole.corrected)
    assert blocked.blocks == "4 groups"


def test_systems_of_other_utterances_are_refused() -> None:
    with pytest.raises(ValueError, match="not scored on the same"):
        correct_selection([counts([1, 2]), counts([1, 2], words=9)], ["", ""], OPTIONS)
