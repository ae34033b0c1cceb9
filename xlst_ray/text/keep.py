"""Which translations are kept, by thresholds on their scores: decided at reading, so changing one costs nothing."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from xlst_ray.config import Section, option

Scores = npt.NDArray[np.float64]  # (N,), NaN where a filter has nothing to say: no reason to refuse


class KeepOptions(Section):
    """Thresholds on the scores of translations (`xlst_ray.text.filters`); none: that score refuses nothing."""

    length_ratio: float | None = option(
        4.0, "largest ratio of characters to source characters, either way from the median of the label set", gt=1
    )
    script: float | None = option(0.8, "smallest share of letters in the target language's script", ge=0, le=1)
    language: float | None = option(0.02, "smallest probability that it is in the target language", ge=0, le=1)
    repetition: float | None = option(0.3, "largest share of repeated n-grams, above the source's", ge=0, le=1)
    longest_word: float | None = option(40.0, "longest word", unit="characters", gt=0)
    copied: float | None = option(0.5, "1 is the source itself, 0 is not", ge=0, le=1)
    untranslated: float | None = option(0.7, "largest share of words that stand in the source, too", ge=0, le=1)
    numbers: float | None = option(0.5, "smallest share of numbers that both sides have", ge=0, le=1)
    stock: float | None = option(50.0, "most different sentences, of some shards, that have this one translation", ge=1)
    quality: float | None = option(
        None, "smallest estimated quality, on the scale of the model that estimates it (quality.path)", added=True
    )


# Score -> whether a value is refused at a threshold.
_BELOW: Final = ("script", "language", "numbers", "quality")
NAMES: Final = tuple(KeepOptions.model_fields)
QUALITY: Final = "quality"  # the one that a model estimates, where there is one
FILTERED: Final = tuple(name for name in NAMES if name != QUALITY)


def refusals(scores: Mapping[str, Scores], options: KeepOptions, median_ratio: float) -> npt.NDArray[np.object_]:
    """For each translation the first score that refuses it, in the order of `KeepOptions`, or none.

    Args:
        scores: arrays (N,) by name; one that is not there refuses nothing.
        median_ratio: the median of `length_ratio` over the label set.
    """
    reasons = np.full(len(scores["length_ratio"]), None, dtype=np.object_)
    passed = np.ones(len(reasons), dtype=np.bool_)
    for name in NAMES:
        threshold = getattr(options, name)
        if threshold is not None and name in scores:
            bad = passed & _bad(name, median_ratio)(scores[name], threshold)
            reasons[bad] = name
            passed &= ~bad
    return reasons


def _bad(name: str, median_ratio: float) -> Callable[[Scores, float], npt.NDArray[np.bool_]]:
    if name in _BELOW:
        return lambda scores, threshold: scores < threshold  # of NaN: false
    if name == "length_ratio":
        return lambda scores, threshold: np.abs(np.log(np.maximum(scores, 1e-9) / median_ratio)) > np.log(threshold)
    return lambda scores, threshold: scores > threshold
