"""SpecAugment: a function of its key alone, within its bounds, as often as the policy says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xlst_ray.audio.augment import SpecAugmentOptions, generator_for, spec_augment, spec_augment_batch
from xlst_ray.config import load
from xlst_ray.errors import ConfigError

OPTIONS = st.builds(
    SpecAugmentOptions,
    policy=st.sampled_from(["lb", "ld"]),
    freq_width=st.none() | st.integers(1, 120),
    time_width=st.none() | st.integers(1, 400),
    time_mask_max_share=st.floats(0.05, 1.0),
)
KEYS = st.tuples(st.integers(0, 2**31), st.integers(0, 1000), st.text(st.characters(codec="utf-8"), max_size=12))


def ones(frames: int, bins: int = 80) -> Tensor:
    return torch.ones(frames, bins)


def masked_rows_and_columns(features: Tensor) -> tuple[list[int], list[int]]:
    zero = features == 0
    return zero.all(1).nonzero().flatten().tolist(), zero.all(0).nonzero().flatten().tolist()


@given(OPTIONS, KEYS, st.integers(1, 300))
def test_the_key_alone_decides(options: SpecAugmentOptions, key: tuple[int, int, str], frames: int) -> None:
    first = spec_augment(ones(frames), options, generator_for(*key))
    assert torch.equal(first, spec_augment(ones(frames), options, generator_for(*key)))


@given(OPTIONS, KEYS, st.integers(1, 300))
def test_masks_stay_within_their_bounds(options: SpecAugmentOptions, key: tuple[int, int, str], frames: int) -> None:
    features = ones(frames)
    masked = spec_augment(features, options, generator_for(*key))
    assert features.all(), "the input is not changed"
    assert set(masked.unique().tolist()) <= {0.0, 1.0}
    rows, columns = masked_rows_and_columns(masked)
    sizes = options.sizes
    if len(rows) < frames:  # not everything is masked by frequency, so columns are frequency masks
        assert len(columns) <= sizes.freq_masks * (min(sizes.freq_width, 80) - 1)
    longest = min(sizes.time_width, int(frames * options.time_mask_max_share))
    if len(columns) < 80:
        assert len(rows) <= sizes.time_masks * max(longest - 1, 0)
    outside = masked.clone()
    outside[rows] = 1.0
    outside[:, columns] = 1.0
    assert outside.all(), "only whole bins and whole frames are masked"


def test_one_mask_is_one_band() -> None:
    for number in range(50):
        masked = spec_augment(ones(200), SpecAugmentOptions(), generator_for(1, 2, str(number)))
        for band in masked_rows_and_columns(masked):
            assert not band or band == list(range(band[0], band[-1] + 1))


def test_widths_are_uniform_and_masks_reach_every_bin_but_the_last() -> None:
    widths, hits = [], torch.zeros(80)
    for number in range(2000):
        masked = spec_augment(ones(150), SpecAugmentOptions(), generator_for(0, 0, str(number)))
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
    assert SpecAugmentOptions().sizes == (1, 27, 1, 100)
    assert SpecAugmentOptions(policy="ld").sizes == (2, 27, 2, 100)
    assert SpecAugmentOptions(policy="ld", time_masks=3, freq_width=9).sizes == (2, 9, 3, 100)


def test_none_masks_nothing() -> None:
    options = SpecAugmentOptions(policy="none")
    assert spec_augment(ones(300), options, generator_for(0, 0, "a")).all()
    assert spec_augment_batch(ones(300)[None], torch.tensor([300]), ["a"], options, seed=0, epoch=0).all()


def test_no_policy_with_masks_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy none masks nothing"):
        load(SpecAugmentOptions, overrides=["policy=none", "time_masks=2"])


def test_a_batch_is_its_rows_and_padding_is_left() -> None:
    features, lengths, ids = torch.ones(3, 120, 80), torch.tensor([120, 33, 0]), ["a", "b", "c"]
    options = SpecAugmentOptions(policy="ld")
    masked = spec_augment_batch(features, lengths, ids, options, seed=5, epoch=2)
    for row, length in enumerate(lengths.tolist()):
        alone = spec_augment(features[row, :length], options, generator_for(5, 2, ids[row]))
        assert torch.equal(masked[row, :length], alone)
        assert masked[row, length:].all()
    assert features.all()
    assert not masked[0].all()
