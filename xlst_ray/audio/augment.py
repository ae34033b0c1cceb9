"""Augmentation: other speeds (Ko et al., Interspeech 2015), and SpecAugment without time warping (Park et al.,
Interspeech 2019 and ICASSP 2020) as fairseq's `examples/speech_to_text` sets it.

What happens to an utterance is a function of (seed, epoch, utterance id) alone, not of the batch, the rank or the
order: a resumed or re-distributed epoch sees the same features.
"""

import hashlib
from typing import Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator
from torch import Tensor

from xlst_ray.audio.decode import Wave, resample
from xlst_ray.audio.fbank import FRAME, SAMPLE_RATE, SHIFT
from xlst_ray.config import Section, option


class MaskSizes(NamedTuple):
    """How many masks, and how wide: bins for frequency, frames for time; of time also the greatest share of a mask."""

    freq_masks: int
    freq_width: int
    time_masks: int
    time_width: int
    time_mask_max_share: float


Policy = Literal["none", "lb", "ld", "sm", "ss", "adaptive"]
_POLICIES: Final[dict[str, MaskSizes]] = {
    "none": MaskSizes(0, 0, 0, 0, 1.0),
    "lb": MaskSizes(1, 27, 1, 100, 1.0),  # CoVoST, MuST-C
    "ld": MaskSizes(2, 27, 2, 100, 1.0),  # LibriSpeech
    "sm": MaskSizes(2, 15, 2, 70, 0.2),  # Switchboard
    "ss": MaskSizes(2, 27, 2, 70, 0.2),
}
_ADAPTIVE_SHARE: Final = 0.04  # of the frames: masks in number and in width (LibriFullAdapt of the second paper)
_ADAPTIVE_MOST: Final = 20


class AugmentOptions(Section):
    """Speeds, a policy of SpecAugment, and what differs from the policy."""

    speeds: tuple[float, ...] = option(
        (1.0,), "an utterance is played at one of these speeds in each epoch; usual: [0.9, 1.0, 1.1]", min_length=1
    )
    policy: Policy = option(
        "lb",
        "LB: one mask of each kind; LD, SM, SS: two of each, for LibriSpeech and Switchboard; adaptive: time masks in "
        "proportion to the utterance",
    )
    freq_masks: int | None = option(None, "frequency masks; none: as the policy says", ge=0)
    freq_width: int | None = option(None, "frequency masks are narrower; none: as the policy", unit="bins", ge=1)
    time_masks: int | None = option(None, "time masks; none: as the policy says", ge=0)
    time_width: int | None = option(None, "time masks are shorter; none: as the policy", unit="frames", ge=1)
    time_mask_max_share: float | None = option(
        None, "a time mask is shorter than this share of the utterance; none: as the policy", gt=0, le=1
    )

    def sizes(self, frames: int) -> MaskSizes:
        """The policy with its changes, for an utterance of so many frames."""
        if self.policy == "adaptive":
            share = int(_ADAPTIVE_SHARE * frames)
            sizes = MaskSizes(2, 27, min(share, _ADAPTIVE_MOST), share, 1.0)
        else:
            sizes = _POLICIES[self.policy]
        changes = {name: getattr(self, name) for name in MaskSizes._fields}
        return sizes._replace(**{name: value for name, value in changes.items() if value is not None})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy == "none" and any(self.sizes(1000)[:4]):
            raise ValueError("policy none masks nothing: choose another one to set the masks")
        if not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speeds {list(self.speeds)} must be from 0.5 to 2")
        if any(abs(round(speed * 100) - speed * 100) > 1e-6 for speed in self.speeds):
            raise ValueError(f"speeds {list(self.speeds)} must be whole hundredths")
        return self


def speed_of(options: AugmentOptions, seed: int, epoch: int, utterance_id: str) -> float:
    """The speed of an utterance in an epoch: each as likely as the others."""
    if len(options.speeds) == 1:
        return options.speeds[0]
    key = hashlib.blake2b(f"speed {seed} {epoch} {utterance_id}".encode(), digest_size=8).digest()
    return options.speeds[int.from_bytes(key, "little") % len(options.speeds)]


def change_speed(wave: Wave, speed: float) -> Wave:
    """Play a 16 kHz wave faster or slower, pitch and all (sox's `speed`): (N,) -> (ceil(N / speed),)."""
    return resample(wave, round(SAMPLE_RATE * speed), SAMPLE_RATE)


def frames_at_speed(frames: npt.NDArray[np.int64], speed: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The most frames that utterances of so many can have at another speed: (N,), at most 2 too many."""
    samples = np.ceil((frames * SHIFT + FRAME - 1) / speed)  # the longest wave that has these frames
    return np.maximum((samples.astype(np.int64) - FRAME) // SHIFT + 1, 0)


def generator_for(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The random numbers of an utterance in an epoch."""
    key = hashlib.blake2b(f"{seed} {epoch} {utterance_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def spec_augment(features: Tensor, options: AugmentOptions, generator: np.random.Generator) -> Tensor:
    """A copy of features (T, F), normalised by CMVN, with bands of bins and of frames set to 0, which is their mean.

    Widths w are uniform in [0, greatest), starts in [0, size - w): the paper's and fairseq's half-open intervals, by
    which the last bin and the last frame are never masked.
    """
    frames, bins = features.shape
    masked = features.clone()
    sizes = options.sizes(frames)
    for _ in range(sizes.freq_masks):
        start, end = _band(generator, bins, min(sizes.freq_width, bins))
        masked[:, start:end] = 0.0
    longest = min(sizes.time_width, int(frames * sizes.time_mask_max_share))
    for _ in range(sizes.time_masks):
        start, end = _band(generator, frames, longest)
        masked[start:end] = 0.0
    return masked


def _band(generator: np.random.Generator, size: int, width: int) -> tuple[int, int]:
    """Start and end of a band narrower than `width` within `size`; empty where there is no room."""
    if width < 1:
        return 0, 0
    drawn = int(generator.integers(width))
    start = int(generator.integers(size - drawn))
    return start, start + drawn
