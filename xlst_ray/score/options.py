"""How sure a score is: the section of the bootstrap."""

from xlst_ray.config import Section, option


class ScoreOptions(Section):
    """The bootstrap behind intervals and p-values."""

    resamples: int = option(2000, "bootstrap resamples of the blocks", unit="samples", ge=100)
    confidence: float = option(0.95, "of the intervals", unit="share", gt=0, lt=1)
    seed: int = option(1, "of the resampling", ge=0)
