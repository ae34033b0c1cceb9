"""Work of trials for tests: a curve that is known beforehand, in the trial's process or on Ray Train's workers."""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.train import OnValidation, run_training
from xlst_ray.errors import TrainingError
from xlst_ray.sweep.space import Assignment
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import Extent, LossSum, Position

UPDATES = 4
LONG = 40  # on workers, where a decision to stop takes a while to arrive
SCHEDULE = TrainOptions(updates=LONG, warmup=0, validate_every=1, average=1)


def outcome(quality: float) -> dict[str, Any]:
    validation = {"update": float(UPDATES), "accuracy": quality}
    return {"wer": 100 * (1 - quality), "seconds": 1.0, "training_seconds": 1.0, "validation": validation}


@dataclass(frozen=True)
class Curve:
    """Accuracy `quality` at every update, each written as a line of the trial's file before it is told."""

    folder: str

    def updates(self, assignment: Assignment) -> int:
        return UPDATES

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        if assignment["quality"] < 0:
            raise TrainingError("the loss is no number")
        for update in range(1, UPDATES + 1):
            with Path(self.folder, str(assignment["quality"])).open("a") as file:
                file.write(f"{update} {os.getpid()}\n")
            on_validation({"update": float(update), "accuracy": assignment["quality"]})
        return outcome(assignment["quality"])


class _Line:
    """A `Task` that learns nothing to speak of, with the accuracy it was given."""

    def __init__(self, quality: float) -> None:
        self.model: nn.Module = nn.Linear(1, 1)
        self._quality = quality

    def batches(self, start: Position) -> Generator[tuple[float, Position], None, None]:
        for number in range(start.batch, 10**6):
            yield 1.0, Position(0, number + 1)

    def dev_batches(self) -> Iterator[float]:
        return iter([1.0])

    def count(self, batch: float) -> int:
        return 1

    def extent(self, batch: float) -> Extent:
        return Extent(1, 1)

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset()

    def loss(self, model: nn.Module, batch: float) -> LossSum:
        return LossSum(model(torch.ones(1, 1)).square().sum(), 1, {"accuracy": torch.tensor(self._quality)})


@dataclass(frozen=True)
class _Job:
    quality: float
    title: str = "line"
    options: TrainOptions = SCHEDULE
    seed: int = 1

    def build(self, world: World, *, streaming: bool) -> _Line:
        return _Line(self.quality)


@dataclass(frozen=True)
class OnWorkers(Curve):
    """The same by Ray Train, whose workers ask for the whole machine."""

    def updates(self, assignment: Assignment) -> int:
        return LONG

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        folder = Path(self.folder, str(assignment["quality"]))
        run_training(_Job(assignment["quality"]), str(folder), cluster, on_validation)
        return outcome(assignment["quality"])
