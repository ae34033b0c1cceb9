"""How sure a score is: the section of the bootstrap."""

from xlst_ray.config import Section, option


class ScoreOptions(Section):
    """The bootstrap behind intervals and p-values."""

    resamples: int = option(2000, "Bootstrap resamples of the blocks.", ge=100)
    confidence: float = option(0.95, "Coverage of the intervals.", gt=0, lt=1)
    seed: int = option(1, "Seed of the resampling.", ge=0)
