"""The same work by ours and by others, side by side in one run: equal results first, then seconds.

A benchmark is a file `bench_<name>.py` with a function `bench() -> list[Row]`. It hands its sides to `compare`, which
refuses results that differ, then runs the sides in turn, so that what else the machine does meets them alike.
"""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class UnequalError(AssertionError):
    """A side whose result is not that of the first: its speed says nothing."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        bench: what is done.
        side: who does it: `ours`, or the peer with its version.
        amount: how much work a run is, in `unit`s.
        wall, cpu: seconds of each run; `cpu` counts processes that the run started and waited for.
        peer: the side that `ratio` compares with; none: nobody.
        ratio: how many times as much work as the peer a CPU-second does (medians).
        note: what else is to be known.
    """

    bench: str
    side: str
    amount: float
    unit: str
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    peer: str | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def speed(self) -> float:
        """Units of work in a CPU-second, at the median."""
        return self.amount / max(statistics.median(self.cpu), 1e-9)


def compare(
    bench: str,
    sides: Mapping[str, Callable[[], T]],
    *,
    amount: float,
    unit: str,
    equal: Callable[[T, T], bool],
    runs: int = 5,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of the sides, the first of them ours, its ratio to each other one in that one's row.

    Args:
        sides: the work by name; each call does all of it and returns its result.
        amount, unit: how much work one call is.
        equal: whether two results are the same, as far as they are meant to be.
        runs: measured calls of each side, after one that warms up and is checked.

    Raises:
        UnequalError: a peer's result is not ours.
    """
    ours, *others = sides
    expected = sides[ours]()
    for name in others:
        if not equal(expected, sides[name]()):
            raise UnequalError(f"{bench}: {name} has another result than {ours}")
    del expected
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, work in sides.items():
            measured[name].append(seconds_of(work))
    rows = []
    for name, pairs in measured.items():
        wall, cpu = (tuple(column) for column in zip(*pairs, strict=True))
        rows.append(Row(bench, name, amount, unit, wall, cpu, note=(notes or {}).get(name, "")))
    first = rows[0]
    return [
        first,
        *(Row(**{**vars(row), "peer": row.side, "ratio": first.speed / row.speed}) for row in rows[1:]),
    ]


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, the processes included that it started and waited for."""
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime  # finer than the ticks of os.times()
