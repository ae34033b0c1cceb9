"""Batches that a thread makes ahead of their use, so that training does not wait for them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from threading import Condition, Thread
from typing import Final, Generic, TypeVar

T = TypeVar("T")

AHEAD_BYTES: Final = 256 * 2**20  # batches that wait for a training process
AHEAD: Final = 64  # most of them, where they are small


def read_ahead(items: Iterable[T], size: Callable[[T], int], most: int) -> Generator[T, None, None]:
    """Items in their order, which a thread makes while earlier ones are used.

    An error is raised in the place of the item that it is of. The thread begins with the first item that is asked for,
    and ends when the generator is closed, at the latest behind the item that it is at.

    Args:
        size: of an item.
        most: the thread rests while the items that wait are together of this size or larger.
    """
    shelf = _Shelf(size, most)
    thread = Thread(target=shelf.fill, args=(items,), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield from shelf.items()
    finally:
        shelf.close()
        thread.join()  # one that computes while the interpreter ends may take the process down


class _Shelf(Generic[T]):
    """Where a thread lays down items for another one."""

    def __init__(self, size: Callable[[T], int], most: int) -> None:
        self._size, self._most = size, most
        self._changed = Condition()
        self._waiting: deque[T] = deque()
        self._held = 0
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def fill(self, items: Iterable[T]) -> None:
        """The thread: to the last item, an error, or `close`."""
        error = None
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as found:  # noqa: BLE001  # whatever it is, it is raised where its item would have been
            error = found
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether more is wanted, now that there is room for it."""
        with self._changed:
            self._waiting.append(item)
            self._held += self._size(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._held < self._most or self._closed)
            return not self._closed

    def items(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                item = self._waiting.popleft()
                self._held -= self._size(item)
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nothing more is wanted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
