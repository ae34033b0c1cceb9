"""The largest batches: the search against trying everything, and the plan that is made from a table."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import batches_of, index_of, indices

from xlst_ray.audio.augment import AugmentOptions, speed_of
from xlst_ray.batches.capacity import bounds_of, search_table
from xlst_ray.batches.index import Index
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import EpochPlan, plan_held_out, planned_frames
from xlst_ray.errors import ConfigError

bounds_lists = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 90)), min_size=1, max_size=10, unique=True)


@given(bounds_lists, st.integers(1, 70), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2000))
def test_the_search_finds_what_trying_everything_does(
    bounds: list[tuple[int, int]], most: int, a: int, b: int, spare: int
) -> None:
    asked: list[tuple[int, int, int]] = []

    def takes(utterances: int, frames: int, tokens: int) -> int:
        return utterances * (a * frames + b * tokens + frames * frames // 50)

    budget = max(takes(1, *bound) for bound in bounds) + spare

    def fits(utterances: int, frames: int, tokens: int) -> bool:
        asked.append((utterances, frames, tokens))
        return takes(utterances, frames, tokens) <= budget

    table = search_table(bounds, fits, most)
    assert sorted((frames, tokens) for frames, tokens, _ in table) == sorted(bounds)
    for frames, tokens, count in table:
        assert count == max(n for n in range(1, most + 1) if takes(n, frames, tokens) <= budget)
    assert len(set(asked)) == len(asked), "nothing is tried twice"
    assert len(asked) <= len(bounds) * (2 * math.log2(most + 1) + 2)


def test_an_utterance_that_does_not_fit_alone_is_said() -> None:
    with pytest.raises(ConfigError, match="of 300 frames and 20 target tokens does not fit"):
        search_table([(100, 10), (300, 20)], lambda utterances, frames, tokens: frames < 300, 8)


@settings(max_examples=100, deadline=None)
@given(indices(), st.integers(1, 30), st.integers(50, 4000), st.integers(1, 3), st.booleans())
def test_a_plan_keeps_to_the_table_of_its_shapes(index: Index, most: int, budget: int, lanes: int, slow: bool) -> None:
    """Every utterance has its place, at its slowest speed too, and no batch is one that was found not to fit."""
    if len(index) < lanes:
        return
    augment = AugmentOptions(policy="none", speeds=(0.8, 1.0) if slow else (1.0,))
    bounds = bounds_of(index, augment)
    budget = max([budget, *(frames + tokens for frames, tokens in bounds)])
    table = search_table(bounds, lambda n, frames, tokens: n * (frames + tokens) <= budget, most)
    options = BatchOptions(table=table, max_utterances=most, max_frames=1, max_tokens=1)
    plan = EpochPlan(index, options, seed=1, epoch=0, lanes=lanes, augment=augment)
    batches = [batch for number in range(plan.windows) for batch in plan.window(number)]
    assert sum(len(batch.rows) for batch in batches) == len(index) - plan.facts().left_out
    for batch in batches:
        frames = planned_frames(index, batch.rows, batch.passes, augment, 1).max()
        tokens = index.target_lengths(batch.rows).max()
        assert len(batch.rows) <= most
        assert len(batch.rows) * (frames + tokens) <= budget
        assert any(frames <= f and tokens <= u for f, u in bounds)
    for rows in plan_held_out(index, options):
        assert len(rows) * (index.frames[rows].max() + index.target_lengths(rows).max()) <= budget


def test_bounds_are_buckets_of_like_size_up_to_the_longest() -> None:
    rng = np.random.default_rng(3)
    frames = rng.lognormal(6, 0.5, 4000).astype(int) + 20
    tokens = np.maximum(1, frames // 20 + rng.integers(-3, 4, 4000))
    index = index_of(frames.tolist(), [0] * 4000, 1, tokens.tolist())
    bounds = bounds_of(index, AugmentOptions(policy="none"))
    longest = sorted({bound for bound, _ in bounds})
    assert len(longest) == 8
    assert longest[-1] == frames.max()
    shares = np.histogram(frames, [0, *np.array(longest) + 1], weights=frames)[0] / frames.sum()
    assert shares == pytest.approx([1 / 8] * 8, abs=0.01)
    for bound in longest:
        usual, most = sorted(u for f, u in bounds if f == bound)
        within = tokens[frames <= bound] + 1
        assert most == within.max()
        assert usual < most
    assert speed_of(AugmentOptions(policy="none"), 0, 0, "u0") == 1.0


def test_the_caps_do_not_hold_beside_a_table() -> None:
    index = index_of([100] * 640, [0] * 640, 1)
    counts = {}
    for name, changes in {"caps": {}, "table": {"table": [[100, 2, 32]]}, "short": {"table": [[99, 2, 32]]}}.items():
        options = BatchOptions.model_validate({"max_frames": 800, **changes})
        counts[name] = max(map(len, batches_of(EpochPlan(index, options, seed=0, epoch=0, lanes=1))))
    assert counts == {"caps": 8, "table": 32, "short": 1}


@pytest.mark.parametrize("values", [{"fit": True, "table": [[10, 2, 3]]}, {"table": [[10, 0, 3]]}])
def test_what_cannot_be_meant_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="table"):
        BatchOptions.model_validate(values)
