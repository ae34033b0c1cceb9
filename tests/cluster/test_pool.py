"""A function over many items by Ray Data: as tasks and as actors."""

from functools import partial

import pytest

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.errors import DataError

CLUSTER = ClusterOptions()


def squarer(offset: int) -> Work:
    return lambda item: {"item": item, "square": item * item + offset}


def refuser() -> Work:
    def refuse(item: int) -> int:
        if item == 3:
            raise DataError("cannot be read", where="shard-00003.parquet", hint="make it again")
        return item

    return refuse


@pytest.mark.parametrize("pool", [None, 2])
def test_every_item_once(ray_cluster: None, pool: int | None) -> None:
    results = list(map_items("square", "numbers", partial(squarer, 1), range(7), CLUSTER, pool=pool, cpus=0.5))
    assert sorted((r["item"], r["square"]) for r in results) == [(n, n * n + 1) for n in range(7)]


def test_a_pool_of_none_works_in_this_process() -> None:
    here: list[int] = []

    def make() -> Work:
        return lambda item: here.append(item) or len(here)

    assert list(map_items("square", "numbers", make, [5, 6], CLUSTER, pool=0)) == [1, 2]
    assert here == [5, 6]


def test_nothing_to_do_starts_nothing() -> None:
    assert list(map_items("square", "numbers", partial(squarer, 1), [], CLUSTER)) == []


@pytest.mark.parametrize("pool", [None, 1])
def test_our_errors_come_back_as_they_are(ray_cluster: None, pool: int | None) -> None:
    with pytest.raises(DataError, match=r"shard-00003.parquet: cannot be read") as raised:
        list(map_items("read", "shards", refuser, range(5), CLUSTER, pool=pool, cpus=0.5))
    assert raised.value.hint == "make it again"
