"""Training batches through Ray Data: the plan carried out in its order by a loader beside each training process.

A row of the dataset is a batch. Each rank streams its own part of the plan, so that which rank gets which batch is
decided by the plan and never by arrival, and no process stands between all ranks.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from torch import Tensor

from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.audio.decode import Wave
from xlst_ray.batches.ahead import AHEAD_BYTES
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.index import Index
from xlst_ray.batches.load import BatchLoader, next_window
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import windows_of_epoch
from xlst_ray.batches.position import Position
from xlst_ray.batches.source import Batches
from xlst_ray.cluster.session import quieten_data

WINDOWS_AHEAD = 512  # windows of one dataset; a further dataset follows
BLOCK_BYTES = 32 * 2**20  # batches that the loader hands over together: some, so that the first is not long in coming
SECONDS_BETWEEN_STEPS = 0.05  # of Ray Data's executor while training waits for a batch
RESTS = 5  # so many times longer while it does not

_waited_for = threading.Event()  # a batch, by the training that this process runs


class _Unhurried(ExecutionCallback):  # type: ignore[misc]  # Ray is untyped here
    """Lets Ray Data's executor rest between its steps.

    Training is slower than loading, so that the loader's output is mostly held back; the executor then polls without a
    pause, in a thread of the training process, and takes the interpreter from it (measured: 0.37 s an update for 0.08;
    with a step every 0.05 s an update takes 8 % more processor time than without Ray, with these rests 1 %).
    """

    def on_execution_step(self, executor: object) -> None:
        for _ in range(RESTS):
            time.sleep(SECONDS_BETWEEN_STEPS)
            if _waited_for.is_set():
                break


class WindowLoader:
    """Loads the batches of one process, a window at a call: the body of the actor."""

    def __init__(
        self,
        index_url: str,
        options: BatchOptions,
        augment: AugmentOptions,
        seed: int,
        ranks: Sequence[int],
        world: int,
        frontend: Callable[[Wave], Tensor] | None,
        threads: int,
    ) -> None:
        index = Index.load(index_url)
        self._loader = BatchLoader(index, options, augment=augment, seed=seed, frontend=frontend, threads=threads)
        self._ranks, self._world = ranks, world

    def __call__(self, windows: dict[str, Any]) -> Iterator[dict[str, Any]]:
        start = Position(*(int(windows[name][0]) for name in Position._fields))
        for batch, after in self._loader.window_batches(start, ranks=self._ranks, world=self._world):
            row = {**batch.to_row(), "after": list(after)}
            yield {name: [value] for name, value in row.items()}


class RaySource:
    """The batches of a process by way of Ray Data; its development set is read in place.

    Args:
        index_url: the training index, which the loader reads itself.
        dev_loader: reads the development batches in this process.
        loader_cpus: what the loader asks of the cluster.
        frontend: as of `BatchLoader`.
    """

    def __init__(
        self,
        index_url: str,
        options: BatchOptions,
        augment: AugmentOptions,
        dev_loader: BatchLoader,
        *,
        seed: int,
        ranks: Sequence[int],
        world: int,
        loader_cpus: float,
        frontend: Callable[[Wave], Tensor] | None = None,
    ) -> None:
        self._frontend = frontend
        self._index_url, self._options, self._augment, self._dev_loader = index_url, options, augment, dev_loader
        self._seed, self._ranks, self._world, self._loader_cpus = seed, ranks, world, loader_cpus
        self._facts = Index.load(index_url).facts  # the rows themselves are the loader's alone

    def train(self, start: Position) -> Batches:
        windows = self._windows(start)
        while True:
            for row in self._stream(list(islice(windows, WINDOWS_AHEAD))):
                yield Batch.from_row(row), Position(*row["after"])

    def dev(self) -> Iterator[Batch]:
        return self._dev_loader.held_out_batches(ranks=self._ranks, world=self._world)

    def _windows(self, at: Position) -> Iterator[Position]:
        """Where to begin in each window, without end."""
        while True:
            epoch = at.epoch
            windows = windows_of_epoch(self._facts, self._options, seed=self._seed, epoch=epoch, lanes=self._world)
            while at.epoch == epoch:
                yield at
                at = next_window(at, len(windows))

    def _stream(self, windows: list[Position]) -> Iterator[dict[str, Any]]:
        quieten_data()
        rows = [window._asdict() for window in windows]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            WindowLoader,
            fn_constructor_args=(
                self._index_url,
                self._options,
                self._augment,
                self._seed,
                self._ranks,
                self._world,
                self._frontend,
                whole_cpus(self._loader_cpus),
            ),
            batch_size=1,
            compute=ActorPoolStrategy(size=1),
            num_cpus=self._loader_cpus,
        )
        dataset.context.target_max_block_size = BLOCK_BYTES
        options = dataset.context.execution_options
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(object_store_memory=AHEAD_BYTES)
        dataset.context.custom_execution_callback_classes = [_Unhurried]
        rows_in_order = iter(dataset.iter_rows())
        while True:
            _waited_for.set()
            try:
                row = next(rows_in_order, None)
            finally:
                _waited_for.clear()
            if row is None:
                return
            yield row


def whole_cpus(cpus: float) -> int:
    """Threads for so many CPUs."""
    return max(1, int(cpus))
