"""Where a training rank gets its batches from: the plain reader here, Ray Data in `xlst_ray.cluster`."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from xlst_ray.batches.ahead import AHEAD, AHEAD_BYTES, read_ahead
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.load import BatchLoader, next_window
from xlst_ray.batches.position import Position

Batches: TypeAlias = Generator[tuple[Batch, Position], None, None]


class BatchSource(Protocol):
    """Batches of one process: of one rank, or of several where there are fewer processes than ranks."""

    def train(self, start: Position) -> Batches:
        """Batches without end, from a position on, each with the position after it. To be closed when done with."""
        ...

    def dev(self) -> Iterator[Batch]:
        """Its part of the development set."""
        ...


@dataclass
class PlainSource:
    """Batches read in this process, by a thread ahead of their use."""

    train_loader: BatchLoader
    dev_loader: BatchLoader
    ranks: Sequence[int] = (0,)
    world: int = 1

    def train(self, start: Position) -> Batches:
        return read_ahead(self._read(start), _size, AHEAD_BYTES)

    def _read(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        while True:
            yield from self.train_loader.window_batches(start, ranks=self.ranks, world=self.world)
            start = next_window(start, self.train_loader.plan(start.epoch, self.world).windows)

    def dev(self) -> Iterator[Batch]:
        return self.dev_loader.held_out_batches(ranks=self.ranks, world=self.world)


def _size(item: tuple[Batch, Position]) -> int:
    return max(item[0].features.nbytes, AHEAD_BYTES // AHEAD)
