"""What a sweep found: the order of its trials, what each parameter explains of it, what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from xlst_ray.score.selection import Selection
from xlst_ray.sweep.journal import DEFAULT, Record
from xlst_ray.sweep.space import canonical

_LEVELS: Final = 3  # parts that the values of a number are sorted into


@dataclass(frozen=True)
class TestScore:
    """A trial on the test set: WER in percent with its interval, and what counts of it."""

    __test__ = False  # no test of pytest's

    wer: float
    interval: tuple[float, float]
    cer: float


@dataclass(frozen=True)
class SweepResults:
    """A sweep, and its winner on the test set.

    Attributes:
        name: of the experiment. source, target: languages by code. start: arm of the configuration as it stands.
        records: of all trials, the configuration as it stands among them (number 0).
        standing: values of the keys that vary, as they stand in the configuration.
        objectives: what was to be small.
        best: number of the winner, by WER of the development set.
        tests: by number, of the winner and of the configuration as it stands: the only trials that see the test set.
        p: two-sided, of these two having one error rate; none where they are one.
        selection: the winner's development WER, corrected for its having been selected.
        rule: how text was normalised before counting. confidence: of the intervals.
    """

    name: str
    source: str
    target: str
    start: str
    records: tuple[Record, ...]
    standing: Mapping[str, Any]
    objectives: tuple[str, ...]
    best: int
    tests: Mapping[int, TestScore]
    p: float | None
    selection: Selection
    rule: str
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """What `sweep.json` holds: all of it, and what follows from it."""
        return {
            **asdict(self),
            "importance": importance(self.records, self.standing),
            "cost": asdict(cost(self.records)),
            "front": front(self.records),
        }


@dataclass(frozen=True)
class Cost:
    """Updates that the trials trained, and would have trained without early stopping; seconds are wall time of trials.

    The configuration as it stands is no part of it: it is trained to its end in any case.
    """

    updates: int
    whole: int
    seconds: float

    @property
    def share(self) -> float:
        return self.updates / self.whole if self.whole else 1.0


def ranked(records: Sequence[Record]) -> list[Record]:
    """The best first: by WER those that came to their end, then those stopped by how far they came and how well, then
    those that failed. It is the order in which Optuna's TPE sees pruned trials."""

    def key(record: Record) -> tuple[float, ...]:
        if record.wer is not None:
            return (0, record.wer, record.number)
        return (2 if record.state == "failed" else 1, -record.trained, -record.accuracy, record.number)

    return sorted(records, key=key)


def front(records: Sequence[Record]) -> list[int]:
    """Numbers of the finished trials that no other beats in both WER and seconds of training, by WER."""
    found, least = [], float("inf")
    for record in sorted(
        (record for record in records if record.wer is not None),
        key=lambda record: (record.outcome["wer"], record.outcome["training_seconds"], record.number),
    ):
        if record.outcome["training_seconds"] < least:
            least = record.outcome["training_seconds"]
            found.append(record.number)
    return found


def cost(records: Sequence[Record]) -> Cost:
    """What the trials cost, that of the configuration as it stands apart."""
    trials = [record for record in records if record.number != DEFAULT]
    return Cost(
        sum(record.trained for record in trials),
        sum(record.updates for record in trials),
        round(sum(record.seconds for record in trials), 1),
    )


def importance(records: Sequence[Record], standing: Mapping[str, Any]) -> dict[str, float]:
    """The share of the variance of the trials' ranks that each key alone explains, 0 to 1, largest first.

    It is epsilon squared (Kelley 1935): the correlation ratio of an analysis of variance on ranks (Kruskal & Wallis
    1952), adjusted for what random groups would explain. The values of numbers are sorted into three groups. Unlike
    a correlation it sees an optimum in the middle; like one it says nothing of keys that matter only together.
    """
    order = [record for record in ranked(records) if record.state in ("finished", "stopped")]
    ranks = np.arange(len(order), dtype=np.float64)
    found = {
        key: _epsilon_squared(ranks, _groups([record.assignment.get(key, value) for record in order]))
        for key, value in standing.items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _groups(values: Sequence[Any]) -> list[int]:
    """The group of each value: of equal ones, or of numbers of about the same size where there are many."""
    distinct = {canonical({"": value}): value for value in values}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and len(distinct) > _LEVELS:
        edges = np.quantile(np.array(values, dtype=np.float64), np.arange(1, _LEVELS) / _LEVELS)
        return [int(np.searchsorted(edges, value, side="left")) for value in values]
    names = list(distinct)
    return [names.index(canonical({"": value})) for value in values]


def _epsilon_squared(ranks: np.ndarray[Any, np.dtype[np.float64]], groups: Sequence[int]) -> float:
    used, count = sorted(set(groups)), len(ranks)
    if len(used) < 2 or count <= len(used):
        return 0.0
    places = np.array(groups)
    within = sum(float(((part := ranks[places == group]) - part.mean()) @ (part - part.mean())) for group in used)
    total = float((ranks - ranks.mean()) @ (ranks - ranks.mean()))
    return max(0.0, 1 - (within / (count - len(used))) / (total / (count - 1)))
