from itertools import islice

import pytest
import tones

from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.source import PlainSource

OPTIONS = BatchOptions(max_utterances=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    tones.write_shards(folder, "dev", ["ab", "cd", "ef", "gh", "a"])
    return tones.write_shards(folder, "train", ["ab", "cd", "ef", "gh", "a", "bc", "de", "fg", "h", "abc", "d"])


def source(shards: str, **where: int) -> PlainSource:
    return tones.source(shards, OPTIONS, **where)


def test_epoch_follows_epoch_and_every_batch_says_what_is_next(shards: str) -> None:
    straight = list(islice(source(shards).train(0, 0), 12))
    assert [(epoch, number) for _, epoch, number in straight] == [(e, n) for e in range(3) for n in (1, 2, 3, 4)]
    orders = [[batch.ids for batch, _, _ in straight[at : at + 4]] for at in (0, 4, 8)]
    assert orders[0] != orders[1] != orders[2]
    assert all(len({name for ids in order for name in ids}) == 11 for order in orders)


@pytest.mark.parametrize("taken", [0, 3, 4, 8])
def test_what_is_next_is_where_a_resume_starts(shards: str, taken: int) -> None:
    """At the end of an epoch too."""
    straight = list(islice(source(shards).train(0, 0), 10))
    epoch, first = (0, 0) if taken == 0 else straight[taken - 1][1:]
    resumed = list(islice(source(shards).train(epoch, first), 10 - taken))
    assert [(batch.ids, *after) for batch, *after in resumed] == [(b.ids, *after) for b, *after in straight[taken:]]


def test_ranks_have_different_batches_and_the_same_positions(shards: str) -> None:
    one, other = (list(islice(source(shards, rank=rank, world=2).train(0, 0), 6)) for rank in range(2))
    assert [after for _, *after in one] == [after for _, *after in other]
    for (mine, *_), (yours, *_) in zip(one, other, strict=True):
        assert not set(mine.ids) & set(yours.ids)
    dev = [name for rank in range(2) for batch in source(shards, rank=rank, world=2).dev() for name in batch.ids]
    assert sorted(dev) == [f"dev-0-{number}" for number in range(5)]
