"""Items that a thread makes ahead of their use."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.batches.ahead import read_ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


class Made:
    """0, 1, 2, ..., which says how many were made, and who waits for how many."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._made = 0

    def __iter__(self) -> Iterator[int]:
        for number in count():
            with self._changed:
                self._made += 1
                self._changed.notify_all()
            yield number

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._made >= number, timeout=60)


@given(st.lists(st.integers(0, 9)), st.integers(1, 30))
def test_items_come_in_their_order_and_none_is_lost(items: list[int], most: int) -> None:
    assert list(read_ahead(iter(items), int, most)) == items
    assert threads() == []


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 30))
def test_an_error_comes_in_the_place_of_its_item(items: list[int], most: int) -> None:
    def failing() -> Iterator[int]:
        yield from items
        raise OSError("the disk is gone")

    found: list[int] = []
    with pytest.raises(OSError, match="the disk is gone") as raised:
        found.extend(read_ahead(failing(), int, most))
    assert found == items
    assert raised.traceback[-1].name == "failing"
    assert threads() == []


def test_it_reads_ahead_as_far_as_it_may_and_no_further() -> None:
    """Of items of size 2 and room for 5: the third fills it."""
    made = Made()
    items = read_ahead(made, lambda _: 2, 5)
    assert next(items) == 0
    made.wait_for(1 + 3)
    [thread] = threads()
    assert next(items) == 1
    made.wait_for(2 + 3)
    items.close()
    assert not thread.is_alive()
    assert made._made == 2 + 3, "and no further"


def test_it_ends_with_its_user() -> None:
    items = read_ahead(Made(), lambda _: 1, 3)
    assert threads() == [], "nothing is read before the first item is asked for"

    assert next(items) == 0
    assert len(threads()) == 1
    del items
    assert threads() == []


def test_it_computes_with_as_many_threads_as_its_user() -> None:
    """Torch gives each thread a number of its own, and sums depend on it."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert list(read_ahead((torch.get_num_threads() for _ in range(2)), int, 9)) == [1, 1]
    finally:
        torch.set_num_threads(before)
