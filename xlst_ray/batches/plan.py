"""The plan of an epoch: which utterances form which batch, on which rank, in which order.

A pure function of (lengths, options, seed, epoch, world size), made before any audio is read. Shards are shuffled and
taken in windows; within a window utterances of similar length form batches under the caps, and runs of `world`
neighbouring batches form a step, so that the ranks of a step have alike work; the steps are then shuffled. Every rank
has the same number of batches by construction. An utterance that is longer than the cap on frames is a batch alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import DataError

LENGTH_JITTER = 0.05  # share of its length by which an utterance is moved when bucketing: other neighbours each epoch


@dataclass(frozen=True)
class EpochPlan:
    """Batches by step and rank: `batches[step][rank]` are rows of the index. `left_out`: utterances in no batch."""

    batches: tuple[tuple[Ints, ...], ...]
    left_out: int

    def of_rank(self, rank: int) -> list[Ints]:
        return [step[rank] for step in self.batches]


def plan_epoch(index: Index, options: BatchOptions, *, seed: int, epoch: int, world: int) -> EpochPlan:
    """The plan of one training epoch. Fewer than `world` utterances may be left out; other ones in the next epoch.

    Raises:
        DataError: fewer utterances than ranks.
    """
    if len(index) < world:
        raise DataError(
            f"{len(index)} utterances are too few for {world} training processes", hint="lower cluster.workers"
        )
    rng = np.random.default_rng([seed, epoch])
    shards = rng.permutation(len(index.urls))
    order_of_shard = np.empty_like(shards)
    order_of_shard[shards] = np.arange(len(shards))
    window_of_row = order_of_shard[index.shard] // options.window_shards
    steps: list[tuple[Ints, ...]] = []
    carried: list[Ints] = []  # too few batches for a step: their utterances go on to the next window
    for window in range(int(window_of_row.max()) + 1):
        rows = np.concatenate([*carried, np.flatnonzero(window_of_row == window)])
        jitter = 1 + LENGTH_JITTER * rng.uniform(-1, 1, len(rows))
        batches = form_batches(rows[np.argsort(index.frames[rows] * jitter, kind="stable")], index.frames, options)
        complete = len(batches) - len(batches) % world
        cut = int(rng.integers(complete + 1))  # anywhere: were it the end, the longest would be left out in each epoch
        end = cut + len(batches) - complete
        carried, batches = batches[cut:end], batches[:cut] + batches[end:]
        window_steps = [tuple(batches[i : i + world]) for i in range(0, complete, world)]
        steps.extend(window_steps[i] for i in rng.permutation(len(window_steps)))
    left = sum(map(len, carried))
    if left < world:
        return EpochPlan(tuple(steps), left_out=left)
    return EpochPlan((*steps, tuple(_halved(carried, world))), left_out=0)


def plan_held_out(index: Index, options: BatchOptions) -> list[Ints]:
    """Batches over every utterance once, longest first, so that a pool of workers ends evenly."""
    return form_batches(np.argsort(index.frames, kind="stable"), index.frames, options)[::-1]


def form_batches(rows: Ints, frames: Ints, options: BatchOptions) -> list[Ints]:
    """Cut rows, given in the order of rising length, into batches under the caps."""
    batches: list[Ints] = []
    start, longest = 0, 0
    for end, length in enumerate(frames[rows].tolist()):
        grown = max(longest, length)
        size = end - start
        if size and (size >= options.max_utterances or (size + 1) * grown > options.max_frames):
            batches.append(rows[start:end])
            start, grown = end, length
        longest = grown
    return [*batches, rows[start:]] if start < len(rows) else batches


def _halved(batches: Sequence[Ints], count: int) -> list[Ints]:
    """The largest batches cut in two until there are `count`, which keeps each under the caps."""
    found = list(batches)
    while len(found) < count:
        largest = max(range(len(found)), key=lambda i: len(found[i]))
        found[largest : largest + 1] = np.array_split(found[largest], 2)
    return found


def padding_share(batches: list[Ints], frames: Ints) -> float:
    """Share of the frames of padded batches that is padding."""
    padded = sum(len(rows) * int(frames[rows].max()) for rows in batches)
    return 1 - sum(int(frames[rows].sum()) for rows in batches) / padded
