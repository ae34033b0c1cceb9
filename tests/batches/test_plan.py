import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import EpochPlan, form_batches, padding_share, plan_epoch, plan_held_out
from xlst_ray.errors import DataError


def index_of(frames: list[int], shard: list[int], shards: int) -> Index:
    count = len(frames)
    return Index(
        urls=tuple(f"shard-{number}" for number in range(shards)),
        ids=tuple(f"u{number}" for number in range(count)),
        shard=np.array(shard, dtype=np.int64),
        row=np.arange(count),
        frames=np.array(frames, dtype=np.int64),
        tokens=tuple(np.array([4]) for _ in range(count)),
        counts={"kept": count},
    )


@st.composite
def indices(draw: st.DrawFn) -> Index:
    """Utterances of mixed lengths in some shards, of which some may be empty."""
    shards = draw(st.integers(1, 9))
    count = draw(st.integers(1, 70))
    frames = draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    shard = sorted(draw(st.lists(st.integers(0, shards - 1), min_size=count, max_size=count)))
    return index_of(frames, shard, shards)


options_of = st.builds(
    BatchOptions, max_utterances=st.integers(1, 20), max_frames=st.integers(1, 3000), window_shards=st.integers(1, 5)
)


def flat(plan: EpochPlan) -> list[Ints]:
    return [batch for step in plan.batches for batch in step]


def assert_under_caps(batches: list[Ints], frames: Ints, options: BatchOptions) -> None:
    for rows in batches:
        assert 1 <= len(rows) <= options.max_utterances
        assert len(rows) == 1 or len(rows) * frames[rows].max() <= options.max_frames


@settings(max_examples=80, deadline=None)
@given(indices(), options_of, st.integers(0, 5), st.integers(0, 5), st.integers(1, 9))
def test_an_epoch_deals_every_utterance_once(
    index: Index, options: BatchOptions, seed: int, epoch: int, world: int
) -> None:
    if len(index) < world:
        with pytest.raises(DataError, match=f"{len(index)} utterances are too few for {world}"):
            plan_epoch(index, options, seed=seed, epoch=epoch, world=world)
        return
    plan = plan_epoch(index, options, seed=seed, epoch=epoch, world=world)
    seen = Counter(np.concatenate(flat(plan)).tolist())
    assert set(seen.values()) == {1}
    assert len(seen) == len(index) - plan.left_out
    assert 0 <= plan.left_out < world
    assert {len(step) for step in plan.batches} == {world}
    assert_under_caps(flat(plan), index.frames, options)
    ranks = [plan.of_rank(rank) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(plan.batches)}
    assert sorted(np.concatenate([rows for batches in ranks for rows in batches])) == sorted(seen)


@settings(max_examples=30, deadline=None)
@given(indices(), options_of, st.integers(0, 5), st.integers(0, 5))
def test_the_plan_is_a_function_of_seed_and_epoch(index: Index, options: BatchOptions, seed: int, epoch: int) -> None:
    one, other = (flat(plan_epoch(index, options, seed=seed, epoch=epoch, world=1)) for _ in range(2))
    assert [rows.tolist() for rows in one] == [rows.tolist() for rows in other]


def realistic(utterances: int = 2000, shards: int = 20) -> Index:
    frames = np.random.default_rng(7).lognormal(6, 0.5, utterances).astype(int).clip(30, 3000)
    return index_of(frames.tolist(), [number * shards // utterances for number in range(utterances)], shards)


def test_epochs_and_seeds_are_cut_and_ordered_differently() -> None:
    index, options = realistic(), BatchOptions(max_frames=10_000)
    plans = [
        [frozenset(rows.tolist()) for rows in flat(plan_epoch(index, options, seed=seed, epoch=epoch, world=1))]
        for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    for number, plan in enumerate(plans):
        for other in plans[number + 1 :]:
            assert len(set(plan) & set(other)) < 0.2 * len(plan), "other neighbours"


def test_batches_come_in_mixed_lengths_with_little_padding() -> None:
    index, options = realistic(), BatchOptions(max_frames=10_000, window_shards=5)
    plan = plan_epoch(index, options, seed=0, epoch=0, world=4)
    assert padding_share(flat(plan), index.frames) < 0.15
    lengths = np.array([index.frames[step[0]].mean() for step in plan.batches])
    order = np.arange(len(lengths))
    assert abs(np.corrcoef(order, lengths)[0, 1]) < 0.4, "not from short to long"
    work = np.array([[len(rows) * index.frames[rows].max() for rows in step] for step in plan.batches])
    assert np.median(work.min(1) / work.max(1)) > 0.9, "the ranks of a step have alike work"


def test_a_window_bounds_the_shards_that_are_open_together() -> None:
    index, options = realistic(), BatchOptions(max_frames=10_000, window_shards=3)
    plan = plan_epoch(index, options, seed=0, epoch=0, world=1)
    shards = [set(index.shard[rows].tolist()) for rows in flat(plan)]
    spans = [[at for at, members in enumerate(shards) if shard in members] for shard in range(20)]
    opened = [sum(span[0] <= at <= span[-1] for span in spans) for at in range(len(shards))]
    assert max(opened) == 3
    assert set.union(*shards[:10]) != {0, 1, 2}, "shards come in another order"


def test_no_utterance_is_left_out_for_ever() -> None:
    """Even the one that is far longer than the others, alone in its batch at the end of every ordering by length."""
    index, options = index_of([10] * 8 + [900], [0] * 9, 1), BatchOptions(max_utterances=1, max_frames=1000)
    left_out = [
        set(range(9)) - set(np.concatenate(flat(plan_epoch(index, options, seed=0, epoch=epoch, world=4))).tolist())
        for epoch in range(20)
    ]
    assert all(len(missing) == 1 for missing in left_out)
    assert len(set.union(*left_out)) > 4


def test_the_last_step_keeps_to_the_caps() -> None:
    """One long utterance and many short ones remain: spread evenly, the long one would get short ones beside it."""
    index, options = index_of([10] * 100 + [1000], [0] * 101, 1), BatchOptions(max_utterances=200, max_frames=1000)
    plan = plan_epoch(index, options, seed=0, epoch=0, world=3)
    assert plan.left_out == 0
    assert_under_caps(flat(plan), index.frames, options)


@settings(max_examples=40, deadline=None)
@given(indices(), options_of)
def test_held_out_batches_cover_every_utterance_once_longest_first(index: Index, options: BatchOptions) -> None:
    batches = plan_held_out(index, options)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(index)))
    assert_under_caps(batches, index.frames, options)
    longest = [index.frames[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


@settings(max_examples=40, deadline=None)
@given(indices(), options_of)
def test_batches_are_as_full_as_the_caps_allow(index: Index, options: BatchOptions) -> None:
    rows = np.argsort(index.frames, kind="stable")
    batches = form_batches(rows, index.frames, options)
    assert np.concatenate(batches).tolist() == rows.tolist()
    for batch, following in itertools.pairwise(batches):
        grown = [*batch, following[0]]
        assert len(grown) > options.max_utterances or len(grown) * index.frames[grown].max() > options.max_frames


def test_padding_share() -> None:
    assert padding_share([np.array([0, 1]), np.array([2])], np.array([10, 5, 7])) == pytest.approx(1 - 22 / 27)
