"""SpecAugment without time warping (Park et al., Interspeech 2019), as fairseq's `examples/speech_to_text` sets it.

The masks of an utterance are a function of (seed, epoch, utterance id) alone, not of the batch, the rank or the order:
a resumed or re-distributed epoch sees the same features.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator
from torch import Tensor

from xlst_ray.config import Section, option


class MaskSizes(NamedTuple):
    """How many masks, and how wide: bins for frequency, frames for time."""

    freq_masks: int
    freq_width: int
    time_masks: int
    time_width: int


_POLICIES: Final = {
    "none": MaskSizes(0, 0, 0, 0),
    "lb": MaskSizes(1, 27, 1, 100),  # CoVoST, MuST-C
    "ld": MaskSizes(2, 27, 2, 100),  # LibriSpeech
}


class SpecAugmentOptions(Section):
    """SpecAugment: a policy of the paper, and what differs from it."""

    policy: Literal["none", "lb", "ld"] = option("lb", "LB: one mask of each kind; LD: two of each")
    freq_masks: int | None = option(None, "frequency masks; none: as the policy says", ge=0)
    freq_width: int | None = option(None, "frequency masks are narrower; none: as the policy", unit="bins", ge=1)
    time_masks: int | None = option(None, "time masks; none: as the policy says", ge=0)
    time_width: int | None = option(None, "time masks are shorter; none: as the policy", unit="frames", ge=1)
    time_mask_max_share: float = option(1.0, "a time mask is shorter than this share of the utterance", gt=0, le=1)

    @property
    def sizes(self) -> MaskSizes:
        """The policy with its changes."""
        changes = {name: getattr(self, name) for name in MaskSizes._fields}
        return _POLICIES[self.policy]._replace(**{name: value for name, value in changes.items() if value is not None})

    @model_validator(mode="after")
    def _none_masks_nothing(self) -> Self:
        if self.policy == "none" and any(self.sizes):
            raise ValueError("policy none masks nothing: choose lb or ld to set the masks")
        return self


def generator_for(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The random numbers of an utterance in an epoch."""
    key = hashlib.blake2b(f"{seed} {epoch} {utterance_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def spec_augment(features: Tensor, options: SpecAugmentOptions, generator: np.random.Generator) -> Tensor:
    """A copy of features (T, F), normalised by CMVN, with bands of bins and of frames set to 0, which is their mean.

    Widths w are uniform in [0, greatest), starts in [0, size - w): the paper's and fairseq's half-open intervals, by
    which the last bin and the last frame are never masked.
    """
    frames, bins = features.shape
    masked = features.clone()
    sizes = options.sizes
    for _ in range(sizes.freq_masks):
        start, end = _band(generator, bins, min(sizes.freq_width, bins))
        masked[:, start:end] = 0.0
    longest = min(sizes.time_width, int(frames * options.time_mask_max_share))
    for _ in range(sizes.time_masks):
        start, end = _band(generator, frames, longest)
        masked[start:end] = 0.0
    return masked


def spec_augment_batch(
    features: Tensor, lengths: Tensor, ids: Sequence[str], options: SpecAugmentOptions, *, seed: int, epoch: int
) -> Tensor:
    """`spec_augment` on each row of a padded batch (B, T, F) with lengths (B,) in frames; padding is left as it is."""
    masked = features.clone()
    if not any(options.sizes):
        return masked
    for row, (length, utterance_id) in enumerate(zip(lengths.tolist(), ids, strict=True)):
        true = masked[row, :length]
        true.copy_(spec_augment(true, options, generator_for(seed, epoch, utterance_id)))
    return masked


def _band(generator: np.random.Generator, size: int, width: int) -> tuple[int, int]:
    """Start and end of a band narrower than `width` within `size`; empty where there is no room."""
    if width < 1:
        return 0, 0
    drawn = int(generator.integers(width))
    start = int(generator.integers(size - drawn))
    return start, start + drawn
