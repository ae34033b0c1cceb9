"""Training batches through Ray Data: the plan carried out in its order by a loader beside each training process.

A row of the dataset is a batch. Each rank streams its own part of the plan, so that which rank gets which batch is
decided by the plan and never by arrival, and no process stands between all ranks.
"""

import time
from collections.abc import Iterator
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy
from ray.data._internal.execution.execution_callback import ExecutionCallback

from xlst_ray.audio.augment import SpecAugmentOptions
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.index import Index
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import plan_epoch
from xlst_ray.cluster.session import quieten_data

RUN_BATCHES = 8  # batches that a loader makes at one call
AHEAD_BYTES = 256 * 2**20  # batches that wait in the object store, of each rank
SECONDS_BETWEEN_STEPS = 0.05
RUNS_AHEAD = 512  # runs of one dataset, at least an epoch; a further dataset follows


class _Unhurried(ExecutionCallback):  # type: ignore[misc]  # Ray is untyped here
    """Lets Ray Data's executor rest between its steps.

    Training is slower than loading, so that the loader's output is mostly held back; the executor then polls without a
    pause, in a thread of the training process, and takes the interpreter from it (measured: 0.37 s an update for 0.08).
    """

    def on_execution_step(self, executor: object) -> None:
        time.sleep(SECONDS_BETWEEN_STEPS)


class RunLoader:
    """Loads runs of consecutive batches of one rank: the body of the actor."""

    def __init__(
        self, index_url: str, options: BatchOptions, augment: SpecAugmentOptions, seed: int, rank: int, world: int
    ) -> None:
        self._loader = BatchLoader(Index.load(index_url), options, augment=augment, seed=seed)
        self._rank, self._world = rank, world

    def __call__(self, runs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        epoch, first, count = (int(runs[name][0]) for name in ("epoch", "first", "count"))
        batches = self._loader.train_batches(epoch, first, rank=self._rank, world=self._world)
        for number, batch in enumerate(batches, first):
            if count and number >= first + count:
                return
            row = {**batch.to_row(), "epoch": epoch, "next": number + 1}
            yield {name: [value] for name, value in row.items()}


class RaySource:
    """A rank's batches by way of Ray Data; its development set is read in place.

    Args:
        index_url: the training index, which the loader reads itself.
        dev_loader: reads the development batches in this process.
        loader_cpus: what the loader asks of the cluster.
    """

    def __init__(
        self,
        index_url: str,
        options: BatchOptions,
        augment: SpecAugmentOptions,
        dev_loader: BatchLoader,
        *,
        seed: int,
        rank: int,
        world: int,
        loader_cpus: float,
    ) -> None:
        self._index_url, self._options, self._augment, self._dev_loader = index_url, options, augment, dev_loader
        self._seed, self._rank, self._world, self._loader_cpus = seed, rank, world, loader_cpus
        self._epoch_batches = len(plan_epoch(Index.load(index_url), options, seed=seed, epoch=0, world=world).batches)
        self._epochs_ahead = max(1, RUNS_AHEAD * RUN_BATCHES // max(self._epoch_batches, RUN_BATCHES))

    def train(self, epoch: int, first: int) -> Iterator[tuple[Batch, int, int]]:
        while True:
            for row in self._stream(self._runs(epoch, first)):
                yield Batch.from_row(row), int(row["epoch"]), int(row["next"])
            epoch, first = epoch + self._epochs_ahead, 0

    def dev(self) -> Iterator[Batch]:
        return self._dev_loader.held_out_batches(rank=self._rank, world=self._world)

    def _runs(self, epoch: int, first: int) -> list[dict[str, int]]:
        """Runs of batches from a position on; the last of an epoch is open-ended: epochs differ a little in length."""
        runs = []
        for e in range(epoch, epoch + self._epochs_ahead):
            starts = list(range(first if e == epoch else 0, self._epoch_batches, RUN_BATCHES)) or [first]
            runs += [{"epoch": e, "first": start, "count": RUN_BATCHES} for start in starts]
            runs[-1]["count"] = 0  # to the end of the epoch
        return runs

    def _stream(self, runs: list[dict[str, int]]) -> Iterator[dict[str, Any]]:
        quieten_data()
        dataset = ray.data.from_items(runs, override_num_blocks=len(runs)).map_batches(
            RunLoader,
            fn_constructor_args=(
                self._index_url,
                self._options,
                self._augment,
                self._seed,
                self._rank,
                self._world,
            ),
            batch_size=1,
            compute=ActorPoolStrategy(size=1),
            num_cpus=self._loader_cpus,
        )
        options = dataset.context.execution_options
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(object_store_memory=AHEAD_BYTES)
        dataset.context.custom_execution_callback_classes = [_Unhurried]
        yield from dataset.iter_rows()
