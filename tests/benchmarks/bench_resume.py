"""The batch after a resume at batch 50,000 of an epoch of a million utterances, against lhotse's sampler."""

import tempfile
from copy import deepcopy

import numpy as np
import pyarrow as pa
from harness import Row, compare
from peers import peer

from xlst_ray.batches.index import Index
from xlst_ray.batches.load import next_window
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import EpochPlan
from xlst_ray.batches.position import START, Position

ROWS = 1_000_000
BATCH = 50_000
WORLD = 2
PEER_ROWS = 50_000  # of lhotse, whose resume replays: its seconds grow with the place
OPTIONS = BatchOptions(max_utterances=16)  # 1,000,000 utterances are then more than 50,000 batches


def index_of(rows: int, rows_per_shard: int = 512) -> Index:
    """Durations of read sentences: log-normal, 2 to 10 s."""
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(1.5, 0.4, rows).clip(2, 10)
    ends = np.concatenate([[0], np.cumsum((seconds * 4.5).astype(np.int64))])
    places = np.arange(rows, dtype=np.int32)
    return Index(
        urls=tuple(f"shard-{number}" for number in range(-(-rows // rows_per_shard))),
        ids=pa.array([f"utterance-{number}" for number in range(rows)], pa.large_string()),
        shard=places // rows_per_shard,
        row=places % rows_per_shard,
        frames=(seconds * 100).astype(np.int32),
        tokens=np.zeros(ends[-1], np.int32),
        ends=ends,
        counts={"kept": rows},
    )


def bench() -> list[Row]:
    index = index_of(ROWS)
    position, expected = straight(index, BATCH)
    with tempfile.TemporaryDirectory() as folder:
        url = f"{folder}/index.parquet"
        index.save(url)
        rows = _resumes(url, position, expected)
    return [*rows, *_lhotse(rows[0]), *_whole_epoch(index)]


def _resumes(url: str, position: Position, expected: list[int]) -> list[Row]:
    def resume() -> list[int]:
        plan = EpochPlan(Index.load(url), OPTIONS, seed=1, epoch=0, lanes=WORLD)
        return [row for batch in plan.window(position.window)[position.batch :][:WORLD] for row in batch.rows]

    assert resume() == expected, "not the batch that comes next"
    return compare(
        f"resume: the step after batch {BATCH:,} of {ROWS:,} utterances for {WORLD} ranks, as in a run without a stop",
        {"ours": resume},
        amount=1,
        unit="resumes",
        equal=list.__eq__,
        notes={"ours": "the index is read from its file, too"},
    )


def _whole_epoch(index: Index) -> list[Row]:
    """The plan of every window, which no run makes at once."""

    def work() -> int:
        plan = EpochPlan(index, BatchOptions(), seed=1, epoch=0, lanes=8)
        return sum(len(batch.rows) for number in range(plan.windows) for batch in plan.window(number))

    assert work() == ROWS, "an utterance has no place"
    arrays = (index.shard, index.row, index.frames, index.tokens, index.ends)
    size = (sum(array.nbytes for array in arrays) + index.ids.nbytes) / 2**20
    epoch = EpochPlan(index, BatchOptions(), seed=1, epoch=0, lanes=8).facts()
    note = f"{epoch.padding:.1%} padding, {epoch.left_out} left out; the index takes {size:.0f} MiB"
    return compare(
        f"plan: every window of an epoch of {ROWS:,} utterances for 8 ranks",
        {"ours": work},
        amount=ROWS,
        unit="utterances",
        equal=int.__eq__,
        runs=3,
        notes={"ours": note},
    )


def straight(index: Index, batch: int) -> tuple[Position, list[int]]:
    """The position after so many batches, and the rows of the step that follows, found by going there."""
    plan = EpochPlan(index, OPTIONS, seed=1, epoch=0, lanes=WORLD)
    position, left = START, batch
    while True:
        planned = plan.window(position.window)
        if left < len(planned):
            position = position._replace(batch=left)
            return position, [row for each in planned[left : left + WORLD] for row in each.rows]
        left -= len(planned)
        position = next_window(position, plan.windows)


def _lhotse(ours: Row) -> list[Row]:
    lhotse, name = peer("lhotse", "lhotse")
    if lhotse is None:
        return []
    from lhotse import CutSet, MonoCut, Recording
    from lhotse.dataset import DynamicBucketingSampler

    seconds = np.random.default_rng(0).lognormal(1.5, 0.4, PEER_ROWS).clip(2, 10).round(2)
    cuts = CutSet.from_cuts(
        MonoCut(f"u{n}", 0.0, float(s), 0, recording=Recording(f"u{n}", [], 16_000, int(s * 16_000), float(s)))
        for n, s in enumerate(seconds)
    )

    def sampler() -> "DynamicBucketingSampler":
        return DynamicBucketingSampler(cuts, max_duration=100.0, num_buckets=30, shuffle=True, seed=1)

    began, taken = sampler(), PEER_ROWS // 40
    iterator = iter(began)
    for _ in range(taken):
        next(iterator)
    state = began.state_dict()
    following = [cut.id for cut in next(iterator)]

    def resume() -> list[str]:
        resumed = sampler()
        resumed.load_state_dict(deepcopy(state))  # it empties what it is given
        return [cut.id for cut in next(iter(resumed))]

    found = compare(
        f"{name}: the batch after batch {taken:,} of {PEER_ROWS:,} utterances, which it finds by replaying",
        {name: resume, "the batch itself": lambda: following},
        amount=1,
        unit="resumes",
        equal=lambda one, other: one == other,
        runs=3,
    )[:1]
    note = f"{taken:,} batches in; ours is {BATCH:,} in"
    return [Row(**{**vars(found[0]), "bench": ours.bench, "ratio": ours.speed / found[0].speed, "note": note})]
