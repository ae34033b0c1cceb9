"""Being asked to end, by SIGTERM or Ctrl-C, and being told that a node will go: training writes a checkpoint first."""

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
def stop_calls(ask: Callable[[], object]) -> Iterator[None]:
    """SIGTERM and SIGINT (Ctrl-C) within the block call `ask`, once, instead of what they would do; the work is to end
    by itself.

    Only the main thread hears signals: on another one (a Tune trial) nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()  # a second one ends the process at once
        say(f"asked to end ({signal.Signals(number).name}): a checkpoint first; a second time ends at once")
        ask()

    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a script
        heard.append(signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        restore()


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
    """What a training worker under Ray Train is asked for between updates; of one mind on all ranks.

    A node of its workers may be drained: by an autoscaler, by what watches for a provider's notice, `ray drain-node`.
    Then a checkpoint is written at once, and training goes on. When the node is to be gone Ray Train starts it again on
    others, from its newest checkpoint; that is no failure, and `max_failures` does not count it.
    """

    def __init__(self, flag: StopFlag, rank: int, title: str) -> None:
        self._flag, self._rank, self._title = flag, rank, title
        self._leaving: set[str] = set()  # nodes whose notice was heard

    def __call__(self, update: int) -> Wish:
        if update % UPDATES_BETWEEN_LOOKS:
            return Wish.GO_ON
        if broadcast_from_rank_zero(self._flag.is_raised() if self._rank == 0 else None):
            return Wish.STOP
        notice = ray.train.get_preemption_info()  # that of rank 0, on all
        leaving = set() if notice is None else set(notice.preempted_node_ids) - self._leaving
        if not leaving:
            return Wish.GO_ON
        self._leaving |= leaving
        if self._rank == 0:
            say(f"{self._title}: {len(leaving)} nodes will be taken away: a checkpoint of update {update} first")
        return Wish.SAVE
