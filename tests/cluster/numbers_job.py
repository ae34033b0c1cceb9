"""A training of one parameter over numbers: what a test does at a batch, it does in the process that trains."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import Extent, LossSum, Position, Task


def options(**changes: object) -> TrainOptions:
    return TrainOptions.model_validate(
        {"updates": 12, "warmup": 0, "lr": 0.1, "validate_every": 6, "average": 1, "log_every": 5, **changes}
    )


class Slope(nn.Module):
    """y = ax."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x


class Numbers:
    """Batches of one number each."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self.model: nn.Module = Slope()
        self._at = at

    def batches(self, start: Position) -> Generator[tuple[Tensor, Position], None, None]:
        number = start.batch
        while True:
            self._at(number)
            number += 1
            yield torch.tensor([1.0 / number]), Position(0, number)

    def dev_batches(self) -> Iterator[Tensor]:
        yield torch.ones(1)

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def extent(self, batch: Tensor) -> Extent:
        return Extent(len(batch), len(batch))

    def loss(self, model: nn.Module, batch: Tensor) -> LossSum:
        device = next(model.parameters()).device
        return LossSum((model(batch.to(device)) - 1).square().sum(), 1)

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset()


def nothing(*_: object) -> None:
    """What is done where a test wants nothing."""


@dataclass(frozen=True)
class Job:
    """A `TrainJob`.

    Attributes:
        at: called with the number of each batch that is loaded.
        built: called where a process begins to train.
    """

    options: TrainOptions
    at: Callable[[int], None] = nothing
    built: Callable[[], None] = nothing
    title: str = "numbers"
    seed: int = 1

    def build(self, world: World, *, streaming: bool) -> Task[Any]:
        self.built()
        return Numbers(self.at)
