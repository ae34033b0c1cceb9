from itertools import islice

import pytest
import tones

from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import START, Position
from xlst_ray.batches.source import PlainSource

OPTIONS = BatchOptions(max_utterances=3, window_shards=1)
TEXTS = (["ab", "cd", "ef", "gh", "a"], ["bc", "de", "fg", "h", "abc", "d"], ["be", "eg", "ga"])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    tones.write_shards(folder, "dev", ["ab", "cd", "ef", "gh", "a"])
    return tones.write_shards(folder, "train", *TEXTS)


def source(shards: str, *ranks: int, world: int = 1) -> PlainSource:
    return tones.source(shards, OPTIONS, ranks=ranks or [0], world=world)


def taken(source: PlainSource, start: Position, count: int) -> list[tuple[tuple[str, ...], Position]]:
    return [(batch.ids, after) for batch, after in islice(source.train(start), count)]


def epoch_of(source: PlainSource, epoch: int) -> list[tuple[str, ...]]:
    """Its batches of an epoch, in order."""
    found = []
    for batch, after in source.train(Position(epoch)):
        found.append(batch.ids)
        if after.epoch > epoch:
            return found
    raise AssertionError


def test_epoch_follows_epoch_each_in_an_order_of_its_own(shards: str) -> None:
    orders = [epoch_of(source(shards), epoch) for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(sorted(name for ids in order for name in ids) == sorted(set().union(*orders[0])) for order in orders)
    straight = [ids for ids, _ in taken(source(shards), START, sum(map(len, orders)))]
    assert straight == [ids for order in orders for ids in order]


def test_what_is_next_is_where_a_resume_starts(shards: str) -> None:
    """In the middle of a window, at its end, and at the end of an epoch."""
    straight = taken(source(shards), START, 16)
    assert {after.batch == 0 for _, after in straight} == {True, False}
    assert straight[-1][1].epoch >= 1
    for number, (_, after) in enumerate(straight[:-1], 1):
        assert taken(source(shards), after, 16 - number) == straight[number:]


def test_ranks_have_different_batches_and_the_same_positions(shards: str) -> None:
    one, other = (taken(source(shards, rank, world=2), START, 8) for rank in range(2))
    assert [after for _, after in one] == [after for _, after in other]
    for (mine, _), (yours, _) in zip(one, other, strict=True):
        assert not set(mine) & set(yours)
    dev = [name for rank in range(2) for batch in source(shards, rank, world=2).dev() for name in batch.ids]
    assert sorted(dev) == [f"dev-0-{number}" for number in range(5)]


def test_a_process_may_do_the_work_of_several_ranks(shards: str) -> None:
    """Step after step it has their batches, and where they end, it does."""
    apart = [taken(source(shards, rank, world=3), START, 9) for rank in range(3)]
    together = taken(source(shards, 0, 2, world=3), START, 18)
    assert together == [found for one, _, other in zip(*apart, strict=True) for found in (one, other)]
    dev = [name for ranks in ([0, 2], [1]) for batch in source(shards, *ranks, world=3).dev() for name in batch.ids]
    assert sorted(dev) == [f"dev-0-{number}" for number in range(5)]
