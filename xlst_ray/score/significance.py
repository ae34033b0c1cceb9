"""How sure a WER is: bootstrap over blocks of utterances, for one system, for two, and the spread over seeds.

Utterances of one scene or one speaker err together, so what is resampled is blocks of them: an interval over single
utterances would be too narrow. The method is that of Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", ICASSP 2004. With few blocks (under some ten) intervals and p-values are rough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xlst_ray.score.errors import ErrorCounts, rate
from xlst_ray.score.options import ScoreOptions

Floats = NDArray[np.float64]

_CELLS_AT_ONCE: Final = 4_000_000  # 32 MB of draws: bounds memory over many blocks


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval, in the unit of the figure, and what was resampled (`14 groups`, `300 utterances`)."""

    low: float
    high: float
    blocks: str


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; one seed has no deviation."""

    mean: float
    deviation: float | None
    seeds: int


def rate_interval(counts: Sequence[ErrorCounts], blocks: Sequence[str], options: ScoreOptions) -> Interval:
    """Percentile interval of the error rate, in percent.

    Args:
        counts: errors of each utterance.
        blocks: the block of each utterance; one without (an empty name) is a block of its own. Where all utterances
            fall into one block, the utterances themselves are resampled, and `Interval.blocks` says so.
        options: resamples, confidence and seed.

    Raises:
        DataError: all references are empty.
        ValueError: not one block name an utterance.
    """
    rate(counts)  # refuses a test set without any reference
    members, description = block_members(blocks, len(counts))
    tail = (1 - options.confidence) / 2
    rates = _resampled_rates([counts], members, options)[0]
    low, high = np.quantile(rates, [tail, 1 - tail])
    return Interval(float(low), float(high), description)


def paired_p_value(
    ours: Sequence[ErrorCounts], theirs: Sequence[ErrorCounts], blocks: Sequence[str], options: ScoreOptions
) -> float:
    """Two-sided p of two systems having the same error rate, from a paired bootstrap over the same blocks.

    Twice the share of resamples in which the difference has the other sign or none, with one added so that it is never
    zero: the smallest value is 2 / (resamples + 1).

    Raises:
        DataError: all references are empty.
        ValueError: the systems were not scored on the same references, or not one block name an utterance.
    """
    if [count.reference for count in ours] != [count.reference for count in theirs]:
        raise ValueError("the two systems were not scored on the same utterances")
    rate(ours)
    members, _ = block_members(blocks, len(ours))
    one, other = _resampled_rates([ours, theirs], members, options)
    difference = one - other
    fewest = min(int(np.sum(difference <= 0)), int(np.sum(difference >= 0)))
    return min(1.0, 2 * (fewest + 1) / (len(difference) + 1))


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and sample deviation of one figure over runs with different seeds; there must be a value."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def block_members(blocks: Sequence[str], utterances: int) -> tuple[NDArray[np.intp], str]:
    """The number of each utterance's block, and what the blocks are (`14 groups`).

    Raises:
        ValueError: not one block name an utterance.
    """
    if len(blocks) != utterances:
        raise ValueError(f"{utterances} utterances, {len(blocks)} block names")
    names = [("group", block) if block else ("utterance", str(place)) for place, block in enumerate(blocks)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < 2 or len(numbers) == utterances:
        return np.arange(utterances), f"{utterances} utterances"
    return np.array([numbers[name] for name in names]), f"{len(numbers)} groups"


def _resampled_rates(
    systems: Sequence[Sequence[ErrorCounts]], members: NDArray[np.intp], options: ScoreOptions
) -> list[Floats]:
    """Error rates in percent of each system, the same draws of blocks for all; draws without any reference left out."""
    lengths = np.bincount(members, [count.reference for count in systems[0]])
    errors = np.stack([np.bincount(members, [count.errors for count in counts]) for counts in systems], axis=1)
    generator = np.random.default_rng(options.seed)
    blocks = len(lengths)
    at_once = max(1, _CELLS_AT_ONCE // blocks)
    sums = []
    for start in range(0, options.resamples, at_once):
        draws = min(at_once, options.resamples - start)
        times = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)
        sums.append(times @ np.column_stack([lengths, errors]))
    total = np.concatenate(sums)
    total = total[total[:, 0] > 0]
    return [100 * total[:, 1 + place] / total[:, 0] for place in range(len(systems))]
