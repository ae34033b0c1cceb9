"""How much of the best score of several is luck: what wins on a development set was also chosen for its errors.

Bootstrap bias correction of Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the out-of-sample predictions for
efficient and accurate cross-validation", Machine Learning 107, 2018: choose the winner anew on resampled blocks, and
score it on the blocks that were not drawn. No model is trained again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xlst_ray.score.errors import ErrorCounts, rate
from xlst_ray.score.options import ScoreOptions
from xlst_ray.score.significance import block_members


@dataclass(frozen=True)
class Selection:
    """The winner's error rate as it was selected, and corrected for that. Percent.

    Attributes:
        apparent: on the set that it was selected on.
        corrected: of whatever wins on resampled blocks, on the blocks left out.
        systems: how many there were to choose from.
        blocks: what was resampled (`14 groups`).
    """

    apparent: float
    corrected: float
    systems: int
    blocks: str

    @property
    def optimism(self) -> float:
        """Percentage points by which the apparent rate is too low; negative ones are noise."""
        return self.corrected - self.apparent


def correct_selection(
    systems: Sequence[Sequence[ErrorCounts]], blocks: Sequence[str], options: ScoreOptions
) -> Selection:
    """The best error rate of several systems, corrected for their having been compared on the same utterances.

    Args:
        systems: errors of each utterance, by system.
        blocks: the block of each utterance, as for `rate_interval`.

    Raises:
        DataError: all references are empty.
        ValueError: systems of other utterances, or not one block name an utterance.
    """
    references = [count.reference for count in systems[0]]
    if any([count.reference for count in counts] != references for counts in systems):
        raise ValueError("the systems were not scored on the same utterances")
    members, description = block_members(blocks, len(references))
    lengths = np.bincount(members, references).astype(np.float64)
    errors = np.stack([np.bincount(members, [count.errors for count in counts]) for counts in systems], axis=1)
    generator = np.random.default_rng(options.seed)
    number = len(lengths)
    found = []
    for _ in range(options.resamples):
        times = generator.multinomial(number, np.full(number, 1 / number))
        out = times == 0
        if not lengths[out].sum() or not (times * lengths).sum():
            continue
        winner = int(np.argmin(times @ errors))  # all have the same reference
        found.append(100 * errors[out, winner].sum() / lengths[out].sum())
    apparent = min(rate(counts) for counts in systems)
    return Selection(apparent, float(np.mean(found)), len(systems), description)
