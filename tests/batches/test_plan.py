import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import batches_of, index_of, indices, windows

from xlst_ray.audio.augment import AugmentOptions, speed_of
from xlst_ray.audio.fbank import frames_of
from xlst_ray.batches.index import Index, Ints, join
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import (
    EpochPlan,
    form_batches,
    padding_share,
    plan_held_out,
    rates,
    shards_of_epoch,
)
from xlst_ray.errors import DataError

options_of = st.builds(
    BatchOptions,
    max_utterances=st.integers(1, 20),
    max_frames=st.integers(1, 3000),
    max_tokens=st.integers(1, 600),
    window_shards=st.integers(1, 5),
    token_buckets=st.integers(1, 4),
)


def assert_under_caps(batches: Sequence[Ints], index: Index, options: BatchOptions) -> None:
    tokens = index.target_lengths()
    for rows in batches:
        assert 1 <= len(rows) <= options.max_utterances
        assert len(rows) == 1 or len(rows) * index.frames[rows].max() <= options.max_frames
        assert len(rows) == 1 or len(rows) * tokens[rows].max() <= options.max_tokens


@settings(max_examples=150, deadline=None)
@given(indices(), options_of, st.integers(0, 5), st.integers(0, 5), st.integers(1, 9))
def test_an_epoch_deals_every_utterance_once(
    index: Index, options: BatchOptions, seed: int, epoch: int, lanes: int
) -> None:
    if len(index) < lanes:
        with pytest.raises(DataError, match=f"{len(index)} utterances are too few for {lanes}"):
            EpochPlan(index, options, seed=seed, epoch=epoch, lanes=lanes)
        return
    plan = EpochPlan(index, options, seed=seed, epoch=epoch, lanes=lanes)
    batches = batches_of(plan)
    seen = Counter(np.concatenate(batches).tolist())
    assert set(seen.values()) == {1}
    facts = plan.facts()
    assert len(seen) == len(index) - facts.left_out
    assert facts.left_out < lanes * plan.windows
    assert facts.batches == len(batches)
    if len(index) >= lanes * len(batches):  # enough to halve batches with
        assert facts.left_out == 0
    assert all(len(window) % lanes == 0 for window in windows(plan)), "each rank has as many batches"
    assert len(batches) > 0
    assert_under_caps(batches, index, options)
    assert all((batch.passes == epoch).all() for window in windows(plan) for batch in window)


@settings(max_examples=30, deadline=None)
@given(indices(), options_of, st.integers(0, 5), st.integers(0, 5))
def test_a_window_is_a_function_of_seed_epoch_and_number(
    index: Index, options: BatchOptions, seed: int, epoch: int
) -> None:
    """In whatever order windows are asked for, so that a resume needs none of those before."""
    one = EpochPlan(index, options, seed=seed, epoch=epoch, lanes=1)
    other = EpochPlan(index, options, seed=seed, epoch=epoch, lanes=1)
    for number in reversed(range(one.windows)):
        assert [b.rows.tolist() for b in one.window(number)] == [b.rows.tolist() for b in other.window(number)]


def common_voice(utterances: int, rows_per_shard: int = 512) -> Index:
    """Durations of read sentences: log-normal, 2 to 10 s; 4.5 tokens a second, more or less."""
    rng = np.random.default_rng(7)
    seconds = rng.lognormal(1.5, 0.4, utterances).clip(2, 10)
    tokens = np.maximum(1, seconds * rng.normal(4.5, 0.9, utterances)).astype(int)
    shards = -(-utterances // rows_per_shard)
    return index_of(
        (seconds * 100).astype(int).tolist(), np.arange(utterances) // rows_per_shard, shards, tokens.tolist()
    )


def test_epochs_and_seeds_are_cut_and_ordered_differently() -> None:
    """Also of a corpus that is one window in every epoch."""
    index = common_voice(2000)
    plans = [
        [frozenset(rows.tolist()) for rows in batches_of(EpochPlan(index, BatchOptions(), seed=s, epoch=e, lanes=1))]
        for s, e in [(0, 0), (0, 1), (1, 0)]
    ]
    for one, other in itertools.combinations(plans, 2):
        assert not set(one) & set(other), "no batch comes twice"


@pytest.mark.parametrize("lanes", [1, 8])
def test_padding_is_little_and_lengths_are_mixed(lanes: int) -> None:
    index = common_voice(40_000)
    plan = EpochPlan(index, BatchOptions(), seed=0, epoch=0, lanes=lanes)
    batches = batches_of(plan)
    assert plan.facts().left_out == 0
    assert padding_share(batches, index.frames) <= 0.05
    assert plan.facts().padding == pytest.approx(padding_share(batches, index.frames))
    by_duration = form_batches(
        np.argsort(index.frames), index.frames.astype(np.int64), index.target_lengths(), BatchOptions(max_tokens=10**9)
    )
    tokens = index.target_lengths()
    assert padding_share(batches, tokens) < 0.75 * padding_share(by_duration, tokens), "tokens are bucketed too"
    lengths = np.array([index.frames[step].mean() for step in batches[::lanes]])
    assert abs(np.corrcoef(np.arange(len(lengths)), lengths)[0, 1]) < 0.4, "not from short to long"
    work = np.array([len(rows) * index.frames[rows].max() for rows in batches]).reshape(-1, lanes)
    assert np.mean(work.mean(1) / work.max(1)) > 0.9, "the ranks of a step have alike work"


def test_a_rank_reads_few_shards_of_a_window_and_nobody_else_reads_them() -> None:
    lanes, options = 4, BatchOptions(window_shards=3)
    index = common_voice(60 * 128, rows_per_shard=128)
    plan = EpochPlan(index, options, seed=0, epoch=0, lanes=lanes)
    seen: set[int] = set()
    foreign = total = 0
    for window in windows(plan):
        rows = [np.concatenate([batch.rows for batch in window[lane::lanes]]) for lane in range(lanes)]
        shards = [Counter(index.shard[members].tolist()) for members in rows]
        present = {shard for counter in shards for shard in counter}
        assert len(present) == lanes * options.window_shards
        assert not present & seen
        seen |= present
        homes = [{shard for shard, _ in counter.most_common(options.window_shards)} for counter in shards]
        assert sum(map(len, homes)) == len(set.union(*homes)), "each shard is at home in one lane"
        foreign += sum(
            n for counter, home in zip(shards, homes, strict=True) for s, n in counter.items() if s not in home
        )
        total += sum(map(len, rows))
    assert seen == set(range(60))
    assert foreign < 0.1 * total


def test_who_is_left_out_changes() -> None:
    """Batches of one utterance cannot be halved: nine are two steps of four, and one stays, each time another."""
    index, options = index_of([10] * 8 + [900], [0] * 9, 1), BatchOptions(max_utterances=1, max_frames=1000)
    left_out = []
    for epoch in range(20):
        plan = EpochPlan(index, options, seed=0, epoch=epoch, lanes=4)
        missing = set(range(9)) - set(np.concatenate(batches_of(plan)).tolist())
        assert len(missing) == plan.facts().left_out == 1
        left_out.append(missing)
    assert len(set.union(*left_out)) > 4


def joined(*sizes: tuple[int, int, float]) -> Index:
    """Sources of (shards, rows a shard, weight), all utterances of 100 frames."""
    return join(
        [
            index_of([100] * shards * rows, np.repeat(np.arange(shards), rows), shards, weight=weight)
            for shards, rows, weight in sizes
        ]
    )


def test_sources_alike_are_met_once_an_epoch() -> None:
    index = joined((3, 10, 1.0), (1, 7, 1.0), (20, 2, 1.0))
    np.testing.assert_array_equal(rates(index.facts, 1.0), [1, 1, 1])
    for epoch in range(3):
        slots = shards_of_epoch(index.facts, BatchOptions(), seed=1, epoch=epoch)
        assert sorted(slots) == [(shard, epoch) for shard in range(24)]


def test_temperature_and_weights_are_met_over_the_epochs() -> None:
    index = joined((60, 50, 1.0), (3, 50, 1.0), (12, 50, 2.0))
    options = BatchOptions(temperature=3.0)
    hours = np.array([60.0, 3.0, 12.0])
    wanted = np.array([1, 1, 2]) * hours ** (1 / 3)
    met = np.zeros(3)
    epochs = 40
    times: Counter[tuple[int, int]] = Counter()
    for epoch in range(epochs):
        slots = shards_of_epoch(index.facts, options, seed=0, epoch=epoch)
        assert abs(len(slots) - 75) <= 3, "an epoch is as long as one pass over everything"
        times.update(slots)
        for slot in slots:
            met[index.facts.source[slot.shard]] += 1
    np.testing.assert_allclose(met / met.sum(), wanted / wanted.sum(), atol=0.01)
    assert set(times.values()) == {1}, "a pass meets each shard once"
    for shards in (range(60), range(60, 63), range(63, 75)):
        counts = [sum(1 for shard, _ in times if shard == wanted) for wanted in shards]
        assert max(counts) - min(counts) <= 1, "and all shards of a source are met alike"


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=40), st.floats(1.1, 10.0))
def test_a_single_source_is_met_once_an_epoch_at_any_temperature(frames: list[int], temperature: float) -> None:
    index = index_of(frames, [0] * len(frames), 1)
    for epoch in range(3):
        slots = shards_of_epoch(index.facts, BatchOptions(temperature=temperature), seed=1, epoch=epoch)
        assert slots == [(0, epoch)]


def test_an_utterance_that_is_met_twice_has_another_pass() -> None:
    index = joined((8, 4, 1.0), (1, 4, 1.0))
    options = BatchOptions(temperature=100.0, window_shards=8)
    plan = EpochPlan(index, options, seed=0, epoch=3, lanes=2)
    met = Counter(
        (int(row), int(turn))
        for window in windows(plan)
        for batch in window
        for row, turn in zip(batch.rows, batch.passes, strict=True)
    )
    assert set(met.values()) == {1}
    small = [turn for row, turn in met if row >= 32]
    assert len(set(small)) >= 3


def test_caps_hold_at_every_speed() -> None:
    index, options = common_voice(600, 100), BatchOptions(max_frames=4000, max_utterances=20)
    augment = AugmentOptions(speeds=(0.9, 1.0, 1.1))
    plan = EpochPlan(index, options, seed=4, epoch=2, lanes=2, augment=augment)
    sizes = set()
    for window in windows(plan):
        for batch in window:
            speeds = [speed_of(augment, 4, 2, name) for name in index.ids_of(batch.rows)]
            samples = index.frames[batch.rows].astype(int) * 160 + 399  # the longest waves with these frames
            frames = [frames_of(-(-int(n * 100) // round(100 * s))) for n, s in zip(samples, speeds, strict=True)]
            assert len(batch.rows) * max(frames) <= options.max_frames
            sizes |= set(speeds)
    assert sizes == {0.9, 1.0, 1.1}


@settings(max_examples=40, deadline=None)
@given(indices(), options_of)
def test_held_out_batches_cover_every_utterance_once_longest_first(index: Index, options: BatchOptions) -> None:
    batches = plan_held_out(index, options)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(index)))
    assert_under_caps(batches, index, options)
    longest = [index.frames[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


@settings(max_examples=40, deadline=None)
@given(indices(), options_of)
def test_batches_are_as_full_as_the_caps_allow(index: Index, options: BatchOptions) -> None:
    frames, tokens = index.frames.astype(np.int64), index.target_lengths()
    rows = np.argsort(frames, kind="stable")
    batches = form_batches(rows, frames, tokens, options)
    assert np.concatenate(batches).tolist() == rows.tolist()
    for batch, following in itertools.pairwise(batches):
        grown = [*batch, following[0]]
        assert (
            len(grown) > options.max_utterances
            or len(grown) * frames[grown].max() > options.max_frames
            or len(grown) * tokens[grown].max() > options.max_tokens
        )


def test_padding_share() -> None:
    assert padding_share([np.array([0, 1]), np.array([2])], np.array([10, 5, 7])) == pytest.approx(1 - 22 / 27)
