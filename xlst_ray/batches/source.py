"""Where a training rank gets its batches from: the plain reader here, Ray Data in `xlst_ray.cluster`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from xlst_ray.batches.batch import Batch
from xlst_ray.batches.load import BatchLoader


class BatchSource(Protocol):
    """Batches of one rank."""

    def train(self, epoch: int, first: int) -> Iterator[tuple[Batch, int, int]]:
        """Batches without end, from the `first` of `epoch` on, each with epoch and number of the one after it."""
        ...

    def dev(self) -> Iterator[Batch]:
        """This rank's part of the development set."""
        ...


@dataclass
class PlainSource:
    """Batches read in this process, with nothing in between."""

    train_loader: BatchLoader
    dev_loader: BatchLoader
    rank: int = 0
    world: int = 1

    def train(self, epoch: int, first: int) -> Iterator[tuple[Batch, int, int]]:
        while True:
            for number, batch in enumerate(
                self.train_loader.train_batches(epoch, first, rank=self.rank, world=self.world), first
            ):
                yield batch, epoch, number + 1
            epoch, first = epoch + 1, 0

    def dev(self) -> Iterator[Batch]:
        return self.dev_loader.held_out_batches(rank=self.rank, world=self.world)
