"""Indices without recordings, and the batches of a plan: for the tests of plans and of capacities."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.plan import EpochPlan, Planned


def index_of(
    frames: Sequence[int], shard: Sequence[int], shards: int, tokens: Sequence[int] | None = None, weight: float = 1.0
) -> Index:
    """An index without recordings: `tokens` for each utterance, one where they are not given."""
    count = len(frames)
    return Index(
        urls=tuple(f"shard-{number}" for number in range(shards)),
        ids=pa.array([f"u{number}" for number in range(count)], pa.large_string()),
        shard=np.array(shard, dtype=np.int32),
        row=np.arange(count, dtype=np.int32),
        frames=np.array(frames, dtype=np.int32),
        tokens=np.full(sum(tokens or [1] * count), 4, dtype=np.int32),
        ends=np.concatenate([[0], np.cumsum(tokens or [1] * count)]).astype(np.int64),
        counts={"kept": count},
        sources=((weight, 0),),
    )


@st.composite
def indices(draw: st.DrawFn) -> Index:
    """Utterances of mixed lengths in some shards, of which some may be empty and some hold one."""
    shards = draw(st.integers(1, 12))
    count = draw(st.integers(1, 70))
    frames = draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    tokens = draw(st.lists(st.integers(1, 90), min_size=count, max_size=count))
    shard = sorted(draw(st.lists(st.integers(0, shards - 1), min_size=count, max_size=count)))
    return index_of(frames, shard, shards, tokens)


def windows(plan: EpochPlan) -> list[list[Planned]]:
    return [plan.window(number) for number in range(plan.windows)]


def batches_of(plan: EpochPlan) -> list[Ints]:
    return [batch.rows for window in windows(plan) for batch in window]
