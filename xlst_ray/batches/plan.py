"""The plan of an epoch: which utterances form which batch, on which rank, in which order; no audio is read for it.

    epoch    all shards in an order of its own, cut into windows of `window_shards` for each lane
    window   its shards are dealt to lanes, one lane for each rank: a shard is read by one loader
    lane     utterances of like duration, and among them of like number of tokens, form batches under the caps
    step     one batch of each lane, all of like duration; the steps of a window are shuffled

A pure function of (lengths, options, seed, epoch, lanes), and each window of the shards in it alone, so that any place
of an epoch of any size is found without what comes before it. Every lane of a window has the same number of batches:
lanes that would have more give some to those that have less, and the largest batches are halved to make their number
a multiple. Several sources are met at rates of their own, pass after pass (`shards_of_epoch`).
"""

import heapq
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xlst_ray.audio.augment import AugmentOptions, frames_at_speed, speed_of
from xlst_ray.batches.capacity import capacity, room
from xlst_ray.batches.index import Index, Ints, ShardFacts
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import DataError

JITTER = 0.01  # share of its length by which an utterance is moved when bucketing: other neighbours each epoch


class Planned(NamedTuple):
    """A batch to be loaded: rows of the index (B,), and which pass over their source each is part of (B,), from 0."""

    rows: Ints
    passes: Ints

    @staticmethod
    def once(rows: Ints) -> "Planned":
        """Rows of a set that is met once."""
        return Planned(rows, np.zeros_like(rows))


class EpochPlan:
    """The windows of one epoch for a number of lanes.

    Args:
        augment: its speeds change lengths; none: as recorded.

    Raises:
        DataError: fewer utterances than lanes.
    """

    def __init__(
        self,
        index: Index,
        options: BatchOptions,
        *,
        seed: int,
        epoch: int,
        lanes: int,
        augment: AugmentOptions | None = None,
    ) -> None:
        self._index, self._options, self._augment, self._lanes = index, options, augment, lanes
        self._seed, self._epoch = seed, epoch
        self._windows = windows_of_epoch(index.facts, options, seed=seed, epoch=epoch, lanes=lanes)

    @property
    def windows(self) -> int:
        return len(self._windows)

    def window(self, number: int) -> list[Planned]:
        """The batches of a window, step after step, lane after lane; as many for each lane."""
        rng = np.random.default_rng([self._seed, self._epoch, number])
        slots = self._windows[number]
        homes = _deal([int(self._index.facts.frames[slot.shard]) for slot in slots], self._lanes)
        lanes = [self._lane([slots[place] for place in home], lane, rng) for lane, home in enumerate(homes)]
        steps = list(zip(*_equalised(lanes, rng), strict=True))
        return [batch.planned for place in rng.permutation(len(steps)) for batch in steps[place]]

    def facts(self) -> "EpochFacts":
        """What becomes of the whole epoch, at the utterances' own speed."""
        batches = [batch.rows for number in range(self.windows) for batch in self.window(number)]
        starts = self._index.facts.starts
        met = sum(int(starts[slot.shard + 1] - starts[slot.shard]) for slots in self._windows for slot in slots)
        padding = padding_share(batches, self._index.frames.astype(np.int64))
        return EpochFacts(len(batches), padding, met - sum(map(len, batches)))

    def _lane(self, slots: Sequence["Slot"], lane: int, rng: np.random.Generator) -> list["_Sized"]:
        if not slots:
            return []
        starts = self._index.facts.starts
        rows = np.concatenate([np.arange(starts[slot.shard], starts[slot.shard + 1]) for slot in slots])
        passes = np.concatenate([np.full(starts[s.shard + 1] - starts[s.shard], s.turn) for s in slots])
        frames = planned_frames(self._index, rows, passes, self._augment, self._seed)
        tokens = self._index.target_lengths(rows)
        batches = bucketed(frames, tokens, self._options, rng)
        return [_Sized(Planned(rows[b], passes[b]), int(frames[b].max()), lane) for b in batches]


class EpochFacts(NamedTuple):
    """Batches of all ranks, share of their frames that is padding, utterances that are in none of them."""

    batches: int
    padding: float
    left_out: int


class Slot(NamedTuple):
    """A shard in an epoch, and how often it was met before."""

    shard: int
    turn: int


def shards_of_epoch(facts: ShardFacts, options: BatchOptions, *, seed: int, epoch: int) -> list[Slot]:
    """The shards of an epoch in its order; those without a row are left out.

    Each source is a stream of passes over its shards, each pass in an order of its own, of which an epoch takes the
    next part: the whole of one pass where all sources are met alike. A source of n frames and weight w is met in
    proportion to w n^(1/T) (Arivazhagan et al. 2019), and all together are as long as one pass over everything.
    """
    slots: list[Slot] = []
    for number, rate in enumerate(rates(facts, options.temperature)):
        members = np.flatnonzero((facts.source == number) & (np.diff(facts.starts) > 0))
        # A rate of 1 may come out as a hair below, which would leave a source of one shard out of the first epoch.
        begin, end = (int(turn * rate * len(members) + 1e-6) for turn in (epoch, epoch + 1))
        while begin < end:
            turn, first = divmod(begin, len(members))
            order = members[np.random.default_rng([seed, number, turn]).permutation(len(members))]
            taken = order[first : first + end - begin]
            slots += [Slot(int(shard), turn) for shard in taken]
            begin += len(taken)
    return [slots[place] for place in np.random.default_rng([seed, epoch]).permutation(len(slots))]


def rates(facts: ShardFacts, temperature: float) -> npt.NDArray[np.float64]:
    """Passes over each source in an epoch: (sources,), all 1 for the temperature 1 and equal weights."""
    frames = np.array([facts.frames[facts.source == number].sum() for number in range(len(facts.weights))], float)
    share = np.array(facts.weights) * np.maximum(frames, 1.0) ** (1 / temperature - 1)
    found: npt.NDArray[np.float64] = share * (frames.sum() / (share * frames).sum())
    return found


def windows_of_epoch(
    facts: ShardFacts, options: BatchOptions, *, seed: int, epoch: int, lanes: int
) -> list[list[Slot]]:
    """The shards of each window of an epoch.

    Raises:
        DataError: fewer utterances than lanes.
    """
    if facts.starts[-1] < lanes:
        raise DataError(
            f"{facts.starts[-1]} utterances are too few for {lanes} training processes", hint="lower cluster.workers"
        )
    slots = shards_of_epoch(facts, options, seed=seed, epoch=epoch)
    count = max(1, len(slots) // (lanes * options.window_shards))  # no small one at the end, that lacks work for some
    bounds = [number * len(slots) // count for number in range(count + 1)]
    return [slots[begin:end] for begin, end in pairwise(bounds)]


def planned_frames(index: Index, rows: Ints, passes: Ints, augment: AugmentOptions | None, seed: int) -> Ints:
    """Frames of utterances at the speeds that they will have: (B,); those of other speeds at most."""
    frames = index.frames[rows].astype(np.int64)
    if augment is None or augment.speeds == (1.0,):
        return frames
    names = index.ids_of(rows)
    speeds = [speed_of(augment, seed, int(turn), name) for turn, name in zip(passes, names, strict=True)]
    return frames_at_speed(frames, np.array(speeds))


def bucketed(frames: Ints, tokens: Ints, options: BatchOptions, rng: np.random.Generator) -> list[Ints]:
    """Batches of utterances of like duration and like number of target tokens, under the caps, each utterance in one.

    Utterances are cut by duration into strips of `token_buckets` batches, each strip by tokens into its batches. The
    cuts are made anew in each window, not at fixed bounds, which would leave a batch unfilled in every bucket. The
    first strip is of a random size: cuts fall elsewhere in each epoch.

    Args:
        frames, tokens: (N,) lengths.

    Returns:
        Places among the N, an array a batch, from short to long.
    """
    jitter = 1 + JITTER * rng.uniform(-1, 1, len(frames))
    order = np.argsort(frames * jitter, kind="stable")
    batches: list[Ints] = []
    start, first = 0, rng.uniform()
    while start < len(order):
        part = order[start : start + options.token_buckets * options.max_utterances]
        longest = np.maximum.accumulate(frames[part])
        each = room(options, longest)  # utterances of a batch
        fits = np.arange(1, len(part) + 1) <= options.token_buckets * each
        size = len(part) if fits.all() else max(1, int(fits.argmin()))
        if start == 0:
            size = max(1, int(first * size))
        strip = part[:size]
        strip = strip[np.argsort(tokens[strip], kind="stable")]
        for piece in np.array_split(strip, -(-size // int(each[size - 1]))):
            batches += form_batches(piece, frames, tokens, options)
        start += size
    return batches


def form_batches(order: Ints, frames: Ints, tokens: Ints, options: BatchOptions) -> list[Ints]:
    """Cut utterances, in the order given, into batches as full as the caps allow; one that is above them is alone."""
    batches: list[Ints] = []
    start = 0
    while start < len(order):
        part = order[start : start + options.max_utterances]
        sizes = np.arange(1, len(part) + 1)
        fits = sizes <= capacity(options, *(np.maximum.accumulate(lengths[part]) for lengths in (frames, tokens)))
        size = len(part) if fits.all() else max(1, int(fits.argmin()))
        batches.append(part[:size])
        start += size
    return batches


def plan_held_out(index: Index, options: BatchOptions) -> list[Ints]:
    """Batches over every utterance once, longest first, so that a pool of workers ends evenly."""
    frames = index.frames.astype(np.int64)
    return form_batches(np.argsort(frames, kind="stable"), frames, index.target_lengths(), options)[::-1]


class _Sized(NamedTuple):
    """A batch, the frames of its longest utterance, and the lane whose shards it is from."""

    planned: Planned
    longest: int
    lane: int


def _deal(sizes: Sequence[int], lanes: int) -> list[list[int]]:
    """Places of shards by lane: the largest first, each to the lane that has least."""
    homes: list[list[int]] = [[] for _ in range(lanes)]
    load = [(0, lane) for lane in range(lanes)]
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        size, lane = heapq.heappop(load)
        homes[lane].append(place)
        heapq.heappush(load, (size + sizes[place], lane))
    return homes


def _equalised(lanes: Sequence[Sequence[_Sized]], rng: np.random.Generator) -> list[list[_Sized]]:
    """The lanes with the same number of batches each, from short to long.

    Where there are too few utterances to halve batches, fewer of them than there are lanes are left out, by chance.
    """
    batches = [batch for lane in lanes for batch in lane]
    each = -(-len(batches) // len(lanes))
    if _utterances(batches) >= each * len(lanes):
        batches = _halved(batches, each * len(lanes))
    else:
        each = len(batches) // len(lanes)
        batches = [batches[place] for place in sorted(rng.permutation(len(batches))[: each * len(lanes)])]
    found: list[list[_Sized]] = [[] for _ in lanes]
    for batch in sorted(batches, key=lambda batch: batch.longest):
        found[batch.lane].append(batch)
    spare: list[_Sized] = []
    for lane in found:
        surplus = max(0, len(lane) - each)
        given = {int((turn + 0.5) * len(lane) / surplus) for turn in range(surplus)}  # of all lengths alike
        spare += [lane[place] for place in given]
        lane[:] = [batch for place, batch in enumerate(lane) if place not in given]
    spare.sort(key=lambda batch: batch.longest)
    while spare:
        for lane in found:
            if len(lane) < each and spare:
                lane.append(spare.pop())
    return [sorted(lane, key=lambda batch: batch.longest) for lane in found]


def _halved(batches: Sequence[_Sized], count: int) -> list[_Sized]:
    """The largest batches cut in two until there are `count`, which keeps each under the caps."""
    found = [(-len(batch.planned.rows), place, batch) for place, batch in enumerate(batches)]
    heapq.heapify(found)
    for place in range(len(batches), count):
        _, at, batch = heapq.heappop(found)
        middle = len(batch.planned.rows) // 2
        for number, part in ((at, slice(middle)), (place, slice(middle, None))):
            half = batch._replace(planned=Planned(batch.planned.rows[part], batch.planned.passes[part]))
            heapq.heappush(found, (-len(half.planned.rows), number, half))
    return [batch for _, _, batch in sorted(found, key=lambda entry: entry[1])]


def _utterances(batches: Sequence[_Sized]) -> int:
    return sum(len(batch.planned.rows) for batch in batches)


def padding_share(batches: Sequence[Ints], frames: Ints) -> float:
    """Share of the frames of padded batches that is padding."""
    padded = sum(len(rows) * int(frames[rows].max()) for rows in batches)
    return 1 - sum(int(frames[rows].sum()) for rows in batches) / padded
