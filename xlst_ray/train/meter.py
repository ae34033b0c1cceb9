"""What a progress line tells: means since the last line, waiting for data, padding, audio read, time to go."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xlst_ray.train.checkpoint import TrainState
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.task import Extent

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What a progress line tells, since the last one.

    Attributes:
        logs: means per target token.
        seconds: wall time of the training so far.
        waiting: share of the time in which there was no batch to train on.
        padding: share of what the model reads of this rank's batches that is padding.
        audio_rate: hours of audio in an hour, on this rank's device; 0 where there is no audio.
        remaining: seconds to go.
        flops: model FLOPs a second on this rank's device; 0 where they are not counted.
        peak: the most that the device can do; none where it is not known.
        tokens: targets of all ranks.
        waited: seconds without a batch to train on, on this rank.
    """

    update: int
    updates: int
    logs: dict[str, float]
    lr: float
    seconds: float
    waiting: float
    padding: float
    audio_rate: float
    remaining: float
    tokens: float
    waited: float
    flops: float = 0.0
    peak: float | None = None

    @property
    def peak_share(self) -> float | None:
        return self.flops / self.peak if self.flops and self.peak else None


class Meter:
    """Sums what a progress line tells, and the time spent waiting for data."""

    def __init__(
        self,
        options: TrainOptions,
        state: TrainState,
        tell: Callable[[Progress], None] | None,
        peak: float | None = None,
    ) -> None:
        self._options, self._tell, self._peak = options, tell, peak
        self._earlier, self._began, self._first = state.seconds, time.monotonic(), state.update
        self._reset(self._began)

    def _reset(self, now: float) -> None:
        self._waiting, self._since, self._tokens, self._flops = 0.0, now, 0.0, 0.0
        self._logs: dict[str, tuple[float, float]] = {}  # sum over tokens, tokens
        self._extents: list[Extent] = []

    @property
    def seconds(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def wait(self, get: Callable[[], T]) -> T:
        began = time.monotonic()
        value = get()
        self._waiting += time.monotonic() - began
        return value

    def count(
        self, update: int, logs: dict[str, float], lr: float, extents: Sequence[Extent], flops: float = 0.0
    ) -> None:
        """Note an update: its logs, with the `tokens` that they are means over, and its batches on this rank,
        with what they cost.

        A name that some updates have not is a mean over the others.
        """
        tokens = logs.pop("tokens")
        self._extents += extents
        self._tokens += tokens
        self._flops += flops
        for name, value in logs.items():
            total, over = self._logs.get(name, (0.0, 0.0))
            self._logs[name] = total + value * tokens, over + tokens
        if self._tell is None or (update % self._options.log_every and update != self._options.updates):
            return
        true, padded, audio = (sum(column) for column in zip(*self._extents, strict=True))
        now = time.monotonic()  # once, so that lines add up
        elapsed = max(now - self._since, 1e-9)
        rate = (now - self._began) / (update - self._first)
        self._tell(
            Progress(
                update=update,
                updates=self._options.updates,
                logs={name: total / over for name, (total, over) in self._logs.items()},
                lr=lr,
                seconds=self._earlier + now - self._began,
                waiting=self._waiting / elapsed,
                padding=1 - true / padded,
                audio_rate=audio / elapsed,
                remaining=rate * (self._options.updates - update),
                tokens=self._tokens,
                waited=self._waiting,
                flops=self._flops / elapsed,
                peak=self._peak,
            )
        )
        self._reset(now)
