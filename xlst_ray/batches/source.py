"""Where a training rank gets its batches from: the plain reader here, Ray Data in `xlst_ray.cluster`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from xlst_ray.batches.batch import Batch
from xlst_ray.batches.load import BatchLoader, next_window
from xlst_ray.batches.position import Position


class BatchSource(Protocol):
    """Batches of one process: of one rank, or of several where there are fewer processes than ranks."""

    def train(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        """Batches without end, from a position on, each with the position after it."""
        ...

    def dev(self) -> Iterator[Batch]:
        """Its part of the development set."""
        ...


@dataclass
class PlainSource:
    """Batches read in this process, with nothing in between."""

    train_loader: BatchLoader
    dev_loader: BatchLoader
    ranks: Sequence[int] = (0,)
    world: int = 1

    def train(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        while True:
            yield from self.train_loader.window_batches(start, ranks=self.ranks, world=self.world)
            start = start._replace(lanes=start.lanes or self.world)
            start = next_window(start, self.train_loader.plan(start.epoch, start.lanes).windows)

    def dev(self) -> Iterator[Batch]:
        return self.dev_loader.held_out_batches(ranks=self.ranks, world=self.world)
