"""Being asked to end by SIGTERM: what a job does then. Training saves itself first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xlst_ray.progress import say
from xlst_ray.train.loop import Wish

UPDATES_BETWEEN_LOOKS = 10  # a look is a message to and from every rank


@contextmanager
def sigterm_calls(ask: Callable[[], object]) -> Iterator[None]:
    """SIGTERM within the block calls `ask`, once, instead of what it would do; the work is expected to end by itself.

    Only the main thread hears signals: on another one (a Tune trial) nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)  # a second one ends the process at once
        say("asked to end (SIGTERM): a checkpoint first; a second SIGTERM ends at once")
        ask()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def signals_kept() -> Iterator[None]:
    """A handler of SIGTERM that there is stays over the block: `ray.init` sets one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Flag:
    """The actor that a driver and its training workers share."""

    def __init__(self) -> None:
        self._raised = False

    def raise_it(self) -> None:
        self._raised = True

    def is_raised(self) -> bool:
        return self._raised


class StopFlag:
    """Raised by the driver, looked at by its workers. It lives beside the driver and goes with it."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = ray.remote(_Flag).options(num_cpus=0, scheduling_strategy=here).remote()

    def raise_it(self) -> None:
        self._actor.raise_it.remote()

    def is_raised(self) -> bool:
        return bool(ray.get(self._actor.is_raised.remote()))


class Wishes:
    """What a training worker under Ray Train is asked for between updates; of one mind on all ranks."""

    def __init__(self, flag: StopFlag, rank: int) -> None:
        self._flag, self._rank = flag, rank

    def __call__(self, update: int) -> Wish:
        if update % UPDATES_BETWEEN_LOOKS:
            return Wish.GO_ON
        stop = broadcast_from_rank_zero(self._flag.is_raised() if self._rank == 0 else None)
        return Wish.STOP if stop else Wish.GO_ON
