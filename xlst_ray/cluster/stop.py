"""Being asked to end by SIGTERM: what a job does then."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from xlst_ray.progress import say


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
