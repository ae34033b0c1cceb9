"""Progress lines for long work: how far, how long to go. Plain lines, so that a log file reads as a terminal.

With `XLST_LOG=json` each is a JSON object of a line, for what collects the logs of a cluster: `time` (UTC), `run` (the
submission, or a name made for this process), `stage` (name and fingerprint of the stage's folder) and `message`.
"""

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

SECONDS_BETWEEN_LINES = 5.0
RUN_VARIABLE, STAGE_VARIABLE, FORMAT_VARIABLE = "XLST_RUN", "XLST_STAGE", "XLST_LOG"


def say(line: str) -> None:
    """Print a progress line at once. Not by `print`, which Ray Train replaces and would show twice."""
    if os.environ.get(FORMAT_VARIABLE) == "json":
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, **where_we_are(), "message": line}, ensure_ascii=False)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def where_we_are() -> dict[str, str]:
    """The run and the stage that this process works for; the stage is empty between two."""
    run = os.environ.setdefault(RUN_VARIABLE, f"run-{uuid.uuid4().hex[:8]}")
    return {"run": run, "stage": os.environ.get(STAGE_VARIABLE, "")}


@contextmanager
def in_stage(name: str) -> Iterator[None]:
    """Within the block, lines and metrics are those of a stage."""
    before = os.environ.get(STAGE_VARIABLE, "")
    os.environ[STAGE_VARIABLE] = name
    try:
        yield
    finally:
        os.environ[STAGE_VARIABLE] = before


def place() -> dict[str, str]:
    """What another process needs to speak as this one does; see `take_place`."""
    there = where_we_are()
    return {
        RUN_VARIABLE: there["run"],
        STAGE_VARIABLE: there["stage"],
        FORMAT_VARIABLE: os.environ.get(FORMAT_VARIABLE, ""),
    }


def take_place(values: Mapping[str, str]) -> None:
    """Speak as the process that `place` was called in: workers of a cluster do not inherit its environment."""
    os.environ.update(values)


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
