"""What a progress line tells: means since the last line, time spent waiting for data, time to go."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from xlst_ray.train.checkpoint import TrainState
from xlst_ray.train.options import TrainOptions

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What a progress line tells. `logs` are means per target token since the last one; times in seconds.

    `tokens` (targets, of all ranks) and `waited` (for data, on this rank) are since the last line; `waiting` is the
    latter's share of the time.
    """

    update: int
    updates: int
    logs: dict[str, float]
    lr: float
    seconds: float
    waiting: float
    remaining: float
    tokens: float
    waited: float


class Meter:
    """Sums what a progress line tells, and the time spent waiting for data."""

    def __init__(self, options: TrainOptions, state: TrainState, tell: Callable[[Progress], None] | None) -> None:
        self._options, self._tell = options, tell
        self._earlier, self._began, self._first = state.seconds, time.monotonic(), state.update
        self._reset()

    def _reset(self) -> None:
        self._waiting, self._since, self._logs, self._tokens = 0.0, time.monotonic(), dict[str, float](), 0.0

    @property
    def seconds(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def wait(self, get: Callable[[], T]) -> T:
        began = time.monotonic()
        value = get()
        self._waiting += time.monotonic() - began
        return value

    def count(self, update: int, logs: dict[str, float], lr: float) -> None:
        tokens = logs.pop("tokens")
        self._tokens += tokens
        for name, value in logs.items():
            self._logs[name] = self._logs.get(name, 0.0) + value * tokens
        if self._tell is None or (update % self._options.log_every and update != self._options.updates):
            return
        rate = (time.monotonic() - self._began) / (update - self._first)
        self._tell(
            Progress(
                update=update,
                updates=self._options.updates,
                logs={name: value / self._tokens for name, value in self._logs.items()},
                lr=lr,
                seconds=self.seconds,
                waiting=self._waiting / max(time.monotonic() - self._since, 1e-9),
                remaining=rate * (self._options.updates - update),
                tokens=self._tokens,
                waited=self._waiting,
            )
        )
        self._reset()
