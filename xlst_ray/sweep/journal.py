"""The journal of a sweep: one file a trial, written as it goes, so that a sweep that was killed goes on from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from xlst_ray import storage
from xlst_ray.sweep.space import Assignment, canonical

State = Literal["running", "finished", "stopped", "failed"]
DEFAULT = 0  # number of the configuration as it stands


@dataclass(frozen=True)
class Record:
    """A trial as far as it has come.

    Attributes:
        number: in the order of their starts; 0 is the configuration as it stands.
        assignment: what varies; a record with the same one is the same trial.
        state: finished: trained to its end and scored. stopped: ended early by the scheduler. failed: `error` says why.
        updates: that it trains where it is not stopped.
        validations: of the development set: `update`, `accuracy`, `nll` ...
        seconds: wall time of the trial: of training and scoring where it is finished, else of its time in the sweep.
        outcome: of a finished one: `wer` and `cer` of the development set in percent, `training_seconds`, and the
            folders `model` and `scored`.
        error: why it failed.
    """

    number: int
    assignment: Assignment
    updates: int
    state: State = "running"
    validations: tuple[dict[str, float], ...] = ()
    seconds: float = 0.0
    outcome: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def trained(self) -> int:
        """Updates that it has trained."""
        return int(self.validations[-1]["update"]) if self.validations else 0

    @property
    def wer(self) -> float | None:
        """WER of the development set, percent; none where it did not come to its end."""
        return None if self.state != "finished" else float(self.outcome["wer"])

    @property
    def accuracy(self) -> float:
        """Of the last validation: share of the tokens."""
        return self.validations[-1]["accuracy"] if self.validations else 0.0

    def heard(self, validation: Mapping[str, float], seconds: float) -> "Record":
        """With a further validation; one that is known already adds its seconds alone."""
        known = self.validations and validation["update"] <= self.validations[-1]["update"]
        validations = self.validations if known else (*self.validations, dict(validation))
        return replace(self, validations=validations, seconds=self.seconds + seconds)


class Journal:
    """The records of a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def read(self) -> dict[str, Record]:
        """All records by canonical assignment, in the order of their numbers."""
        files = storage.list_files(self.folder, ".json")
        records = sorted((_from_json(storage.read_json(url)) for url in files), key=lambda record: record.number)
        return {canonical(record.assignment): record for record in records}

    def write(self, record: Record) -> None:
        """Keep a record in place of its earlier one."""
        storage.write_json(storage.join(self.folder, f"{record.number:04d}.json"), asdict(record))


def _from_json(values: dict[str, Any]) -> Record:
    return Record(**{**values, "validations": tuple(values["validations"])})
