"""Progress lines for long work: how far, how long to go. Plain lines, so that a log file reads as a terminal."""

import sys
import time

SECONDS_BETWEEN_LINES = 5.0


def say(line: str) -> None:
    """Print a progress line at once. Not by `print`, which Ray Train replaces and would show twice."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Ticker:
    """Counts items of a piece of work and prints a line now and then, and one at the end.

    Args:
        title: what is going on.
        total: items there are.
        unit: what an item is called, in the plural.
    """

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._began, self._printed = 0, time.monotonic(), time.monotonic()

    def tick(self) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done < self._total and now - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._printed = now
        remaining = (now - self._began) / self._done * (self._total - self._done)
        say(f"{self._title}  {self._done}/{self._total} {self._unit}, to go {clock(remaining)}")


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
