"""Cutting long recordings where nobody speaks, so that a model meets utterances of the length it was trained on."""

from typing import Final

import numpy as np

from xlst_ray.audio.decode import Wave
from xlst_ray.audio.fbank import SAMPLE_RATE

QUIET: Final = 0.3  # seconds: a pause between words is shorter, one between sentences longer
_STEP: Final = SAMPLE_RATE // 100  # samples from one place where a cut is tried to the next


def cut_at_silence(wave: Wave, longest: float) -> list[tuple[int, int]]:
    """Parts (start, end) of a 16 kHz wave (N,), in samples: they follow on one another and cover all of it.

    No part is longer than `longest` seconds. A cut is in the middle of the quietest `QUIET` seconds within the second
    half of what fits.

    Raises:
        ValueError: `longest` is below 2 x QUIET seconds.
    """
    if longest < 2 * QUIET:
        raise ValueError(f"parts of {longest} s have no room for a pause of {QUIET} s")
    fits, half = int(longest * SAMPLE_RATE), int(QUIET * SAMPLE_RATE) // 2
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    parts, start = [], 0
    while len(wave) - start > fits:
        places = np.arange(start + fits // 2, start + fits - half, _STEP)
        loudness = energy[places + half] - energy[places - half]
        cut = int(places[np.flatnonzero(loudness == loudness.min())[-1]])  # the last of equals: fewer parts
        parts.append((start, cut))
        start = cut
    return [*parts, (start, len(wave))]
