"""SpecAugment: a function of its key alone, within its bounds, as often as the policy says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xlst_ray.audio._torchaudio import functional
from xlst_ray.audio.augment import (
    AugmentOptions,
    change_speed,
    frames_at_speed,
    generator_for,
    spec_augment,
    speed_of,
)
from xlst_ray.audio.fbank import frames_of
from xlst_ray.config import load
from xlst_ray.errors import ConfigError

OPTIONS = st.builds(
    AugmentOptions,
    policy=st.sampled_from(["lb", "ld", "sm", "ss", "adaptive"]),
    freq_width=st.none() | st.integers(1, 120),
    time_width=st.none() | st.integers(1, 400),
    time_mask_max_share=st.none() | st.floats(0.05, 1.0),
)
KEYS = st.tuples(st.integers(0, 2**31), st.integers(0, 1000), st.text(st.characters(codec="utf-8"), max_size=12))


def ones(frames: int, bins: int = 80) -> Tensor:
    return torch.ones(frames, bins)


def masked_rows_and_columns(features: Tensor) -> tuple[list[int], list[int]]:
    zero = features == 0
    return zero.all(1).nonzero().flatten().tolist(), zero.all(0).nonzero().flatten().tolist()


@given(OPTIONS, KEYS, st.integers(1, 300))
def test_the_key_alone_decides(options: AugmentOptions, key: tuple[int, int, str], frames: int) -> None:
    first = spec_augment(ones(frames), options, generator_for(*key))
    assert torch.equal(first, spec_augment(ones(frames), options, generator_for(*key)))


@given(OPTIONS, KEYS, st.integers(1, 300))
def test_masks_stay_within_their_bounds(options: AugmentOptions, key: tuple[int, int, str], frames: int) -> None:
    features = ones(frames)
    masked = spec_augment(features, options, generator_for(*key))
    assert features.all(), "the input is not changed"
    assert set(masked.unique().tolist()) <= {0.0, 1.0}
    rows, columns = masked_rows_and_columns(masked)
    sizes = options.sizes(frames)
    if len(rows) < frames:  # not everything is masked by frequency, so columns are frequency masks
        assert len(columns) <= sizes.freq_masks * (min(sizes.freq_width, 80) - 1)
    longest = min(sizes.time_width, int(frames * sizes.time_mask_max_share))
    if len(columns) < 80:
        assert len(rows) <= sizes.time_masks * max(longest - 1, 0)
    outside = masked.clone()
    outside[rows] = 1.0
    outside[:, columns] = 1.0
    assert outside.all(), "only whole bins and whole frames are masked"


def test_one_mask_is_one_band() -> None:
    for number in range(50):
        masked = spec_augment(ones(200), AugmentOptions(), generator_for(1, 2, str(number)))
        for band in masked_rows_and_columns(masked):
            assert not band or band == list(range(band[0], band[-1] + 1))


def test_widths_are_uniform_and_masks_reach_every_bin_but_the_last() -> None:
    widths, hits = [], torch.zeros(80)
    for number in range(2000):
        masked = spec_augment(ones(150), AugmentOptions(), generator_for(0, 0, str(number)))
        _, columns = masked_rows_and_columns(masked)
        widths.append(len(columns))
        hits[columns] += 1
    counts = np.bincount(widths, minlength=27)
    assert len(counts) == 27
    assert (np.abs(counts - 2000 / 27) < 45).all()
    assert hits[:-1].all()


def test_another_seed_epoch_or_utterance_masks_otherwise() -> None:
    keys = [(seed, epoch, name) for seed in range(3) for epoch in range(3) for name in ("a", "b")]
    drawn = {generator_for(*key).integers(2**60) for key in keys}
    assert len(drawn) == len(keys)


def test_the_key_means_the_same_on_every_machine() -> None:
    assert generator_for(1, 2, "scène/3").integers(1000, size=4).tolist() == PINNED


PINNED = [844, 21, 697, 602]


def test_policies_are_the_papers() -> None:
    """Tables 1 of Park et al. 2019 (LB, LD, SM, SS) and LibriFullAdapt of Park et al. 2020."""
    found = {name: tuple(AugmentOptions(policy=name).sizes(500)) for name in ("lb", "ld", "sm", "ss", "adaptive")}
    assert found == {
        "lb": (1, 27, 1, 100, 1.0),
        "ld": (2, 27, 2, 100, 1.0),
        "sm": (2, 15, 2, 70, 0.2),
        "ss": (2, 27, 2, 70, 0.2),
        "adaptive": (2, 27, 20, 20, 1.0),
    }
    assert AugmentOptions(policy="adaptive").sizes(150)[2:4] == (6, 6)
    assert AugmentOptions(policy="adaptive").sizes(2000)[2:4] == (20, 80), "no more than 20 masks"
    assert AugmentOptions(policy="ss", time_masks=3, time_mask_max_share=0.5).sizes(500) == (2, 27, 3, 70, 0.5)


def test_a_time_mask_is_no_longer_than_its_share() -> None:
    options = AugmentOptions(policy="ss", freq_masks=0, time_masks=1)
    lengths = [
        len(masked_rows_and_columns(spec_augment(ones(50), options, generator_for(0, 0, str(number))))[0])
        for number in range(300)
    ]
    assert max(lengths) == 9, "a fifth of 50 frames, its end left out"


def test_adaptive_masks_a_like_share_of_short_and_long() -> None:
    options = AugmentOptions(policy="adaptive", freq_masks=0)
    shares = [
        np.mean(
            [
                float((spec_augment(ones(frames), options, generator_for(0, 0, str(n)))[:, 0] == 0).float().mean())
                for n in range(60)
            ]
        )
        for frames in (250, 500)
    ]
    assert 0.05 < shares[0] < shares[1] < 0.45


@given(KEYS)
def test_the_key_alone_decides_the_speed(key: tuple[int, int, str]) -> None:
    options = AugmentOptions(speeds=(0.9, 1.0, 1.1))
    assert speed_of(options, *key) == speed_of(options, *key) in options.speeds
    assert speed_of(AugmentOptions(), *key) == 1.0


def test_speeds_are_equally_likely_and_change_from_epoch_to_epoch() -> None:
    options = AugmentOptions(speeds=(0.9, 1.0, 1.1))
    drawn = [[speed_of(options, 1, epoch, f"u{number}") for number in range(900)] for epoch in range(2)]
    for speed in options.speeds:
        assert abs(drawn[0].count(speed) - 300) < 60
    assert 500 < sum(one != other for one, other in zip(*drawn, strict=True)) < 700
    assert drawn[0] == [speed_of(options, 1, 0, f"u{number}") for number in range(900)]


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_a_tone_at_another_speed_has_another_length_and_pitch(speed: float) -> None:
    """Against the tone that it must become, and against torchaudio's own `speed`."""
    times = np.arange(16_000) / 16_000
    found = change_speed(np.sin(2 * np.pi * 440 * times).astype(np.float32), speed)
    assert len(found) == int(np.ceil(16_000 / speed))
    expected = np.sin(2 * np.pi * 440 * speed * np.arange(len(found)) / 16_000)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-3)
    theirs, _ = functional.speed(torch.from_numpy(np.sin(2 * np.pi * 440 * times).astype(np.float32)), 16_000, speed)
    np.testing.assert_allclose(found, theirs.numpy(), atol=1e-5)


def test_the_usual_speed_changes_no_sample() -> None:
    wave = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert change_speed(wave, 1.0) is wave


@given(st.integers(400, 600_000), st.sampled_from([0.9, 0.95, 1.1, 1.25]))
def test_planned_frames_are_an_upper_bound(samples: int, speed: float) -> None:
    planned = int(frames_at_speed(np.array([frames_of(samples)]), np.array([speed]))[0])
    true = frames_of(int(np.ceil(samples / speed)))
    assert true <= planned <= true + 2


@pytest.mark.parametrize("speeds", ["[0.3]", "[1.0,3.0]", "[]", "[1.005]"])
def test_speeds_that_are_none_are_refused(speeds: str) -> None:
    with pytest.raises(ConfigError, match="speeds"):
        load(AugmentOptions, overrides=[f"speeds={speeds}"])


def test_none_masks_nothing() -> None:
    options = AugmentOptions(policy="none")
    assert spec_augment(ones(300), options, generator_for(0, 0, "a")).all()


def test_no_policy_with_masks_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy none masks nothing"):
        load(AugmentOptions, overrides=["policy=none", "time_masks=2"])
