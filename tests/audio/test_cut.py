from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.audio.cut import QUIET, cut_at_silence
from xlst_ray.audio.fbank import SAMPLE_RATE

seconds = st.floats(0.2, 1.5)


def noise(length: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(length * SAMPLE_RATE)).astype(np.float32)


@given(st.lists(seconds, max_size=12), st.floats(2 * QUIET, 3.0))
def test_parts_follow_on_one_another_cover_all_and_are_no_longer_than_allowed(
    lengths: list[float], longest: float
) -> None:
    wave = np.concatenate([noise(0.01), *(noise(length) * (number % 2) for number, length in enumerate(lengths))])
    parts = cut_at_silence(wave, longest)
    assert parts[0][0] == 0
    assert parts[-1][1] == len(wave)
    assert all(one[1] == other[0] for one, other in pairwise(parts))
    assert all(0 < end - start <= longest * SAMPLE_RATE for start, end in parts)


@given(st.lists(seconds, min_size=2, max_size=12))
def test_cuts_are_in_the_pauses_where_every_stretch_of_speech_fits(speech: list[float]) -> None:
    """Speech of up to 1.5 s and pauses of 0.4 s: some pause is in the second half of every 4 s."""
    pause = np.zeros(int(0.4 * SAMPLE_RATE), np.float32)
    wave = np.concatenate([part for length in speech for part in (noise(length), pause)])
    for _, end in cut_at_silence(wave, 4.0)[:-1]:
        assert not wave[end - SAMPLE_RATE // 20 : end + SAMPLE_RATE // 20].any()


def test_a_short_wave_is_one_part_and_an_empty_one_an_empty_part() -> None:
    assert cut_at_silence(noise(2.0), 2.0) == [(0, 2 * SAMPLE_RATE)]
    assert cut_at_silence(noise(0.0), 2.0) == [(0, 0)]


def test_parts_too_short_for_a_pause_are_refused() -> None:
    with pytest.raises(ValueError, match="no room for a pause"):
        cut_at_silence(noise(1.0), QUIET)
