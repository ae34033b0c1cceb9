import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.train.schedule import inverse_sqrt


@given(st.integers(1, 100_000), st.integers(1, 50_000), st.floats(1e-6, 1))
def test_it_is_the_smaller_of_a_line_and_a_root(update: int, warmup: int, peak: float) -> None:
    expected = peak * math.sqrt(warmup) * min(update**-0.5, update * warmup**-1.5)  # Vaswani et al. 2017, eq. 3
    assert inverse_sqrt(update, peak=peak, warmup=warmup) == pytest.approx(expected, rel=1e-12)


def test_it_peaks_at_the_end_of_the_warm_up() -> None:
    assert inverse_sqrt(1, peak=0.5, warmup=100) == pytest.approx(0.005)
    assert inverse_sqrt(100, peak=0.5, warmup=100) == 0.5
    assert inverse_sqrt(400, peak=0.5, warmup=100) == pytest.approx(0.25)


def test_without_a_warm_up_it_falls_from_the_first_update() -> None:
    assert [inverse_sqrt(update, peak=1.0, warmup=0) for update in (1, 4)] == [1.0, 0.5]
