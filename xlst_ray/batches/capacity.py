"""How many utterances a batch may have: by caps, or by a table of shapes that were tried on the device."""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from xlst_ray.audio.augment import AugmentOptions, frames_at_speed
from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import ConfigError

BUCKETS: Final = 8  # of duration, in which there are as many frames
USUAL: Final = 0.95  # share of the utterances of a bucket that its first bound of tokens holds

Table: TypeAlias = tuple[tuple[int, int, int], ...]  # frames, target tokens, utterances: as of BatchOptions.table
Fits: TypeAlias = Callable[[int, int, int], bool]  # whether so many utterances of so many frames and tokens fit


def capacity(options: BatchOptions, frames: Ints, tokens: Ints) -> Ints:
    """Most utterances (N,) of batches whose longest have so many frames (N,) and target tokens (N,); at least 1."""
    if not options.table:
        most = np.minimum(options.max_frames // frames, options.max_tokens // tokens)
    else:
        bound = np.array(options.table, dtype=np.int64)
        within = (frames[:, None] <= bound[:, 0]) & (tokens[:, None] <= bound[:, 1])
        most = np.where(within, bound[:, 2], 1).max(axis=1)
    return np.clip(most, 1, options.max_utterances)


def room(options: BatchOptions, frames: Ints) -> Ints:
    """`capacity` by duration alone: (N,)."""
    if not options.table:
        return np.clip(options.max_frames // frames, 1, options.max_utterances)
    return capacity(options, frames, np.ones_like(frames))


def bounds_of(index: Index, augment: AugmentOptions) -> list[tuple[int, int]]:
    """The longest shapes (frames, target tokens) of duration buckets, and of the usual and the most tokens in each.

    Every training utterance is within the last, at its slowest speed.
    """
    frames, slowest = index.frames.astype(np.int64), min(augment.speeds)
    if slowest < 1:
        frames = frames_at_speed(frames, np.full(len(frames), slowest))
    tokens = index.target_lengths()
    order = np.argsort(frames, kind="stable")
    total = np.cumsum(frames[order])
    found: list[tuple[int, int]] = []
    begin = 0
    for bucket in range(1, BUCKETS + 1):
        end = int(np.searchsorted(total, total[-1] * bucket / BUCKETS, side="left")) + 1
        longest, so_far = int(frames[order[end - 1]]), tokens[order[:end]]
        usual = int(np.quantile(tokens[order[begin:end]], USUAL, method="higher")) if end > begin else 1
        found += [(longest, usual), (longest, int(so_far.max()))]
        begin = end
    return list(dict.fromkeys(found))


def search_table(bounds: list[tuple[int, int]], fits: Fits, most: int) -> Table:
    """The most utterances, up to `most`, that fit for each bound.

    Args:
        fits: monotone: what fits, fits with fewer or shorter utterances too. It is asked as seldom as may be.

    Raises:
        ConfigError: one utterance alone does not fit.
    """
    found: list[tuple[int, int, int]] = []
    for frames, tokens in sorted(bounds, key=lambda bound: bound[0] * bound[1], reverse=True):
        least = max([count for longer, more, count in found if frames <= longer and tokens <= more], default=0)
        upper = min([count for shorter, less, count in found if frames >= shorter and tokens >= less], default=most)
        count = _largest(partial(_within, fits, frames, tokens), least, upper)
        if count == 0:
            raise ConfigError(
                f"an utterance of {frames} frames and {tokens} target tokens does not fit the memory",
                where="batch.fit",
                hint="lower batch.max_utterance_frames, set train.recompute=true, or take a smaller model",
            )
        found.append((frames, tokens, count))
    return tuple(sorted(found))


def _within(fits: Fits, frames: int, tokens: int, utterances: int) -> bool:
    return fits(utterances, frames, tokens)


def _largest(fits: Callable[[int], bool], fitting: int, most: int) -> int:
    """The largest number up to `most` that fits, where `fitting` is known to; 0: none does."""
    step = 1
    failing = most + 1
    while fitting < most and failing > most:  # by leaps, for large ones are slow to try
        tried = min(fitting + step if fitting else 1, most)
        if fits(tried):
            fitting, step = tried, 2 * tried
        else:
            failing = tried
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting
