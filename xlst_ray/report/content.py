"""What a report page can tell besides the scores: plain data that the recipe gathers. The report reads no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlst_ray.score.bleu import TextScore
from xlst_ray.text.leakage import LeakageReport


@dataclass(frozen=True)
class CurvePoint:
    """A validation of a training run. Losses are per target token; accuracy is a share of the tokens, 0 to 1."""

    update: int
    train_loss: float | None = None
    dev_loss: float | None = None
    dev_accuracy: float | None = None


@dataclass(frozen=True)
class Sample:
    """A test utterance: its reference, and the hypotheses by the arm's label, normalised alike."""

    id: str
    reference: str
    hypotheses: Mapping[str, str]


@dataclass(frozen=True)
class DataTable:
    """Facts of the data: hours and counts by split, dropped rows by reason. The first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Content:
    """The sections below the table by arm; an empty one is left out.

    Attributes:
        curves: validations by the name of the training run.
        samples: test utterances with the hypotheses of each arm.
        data: tables of facts.
        leakage: held-out sentences in training texts.
        translation: scores of ST on its own test set, by MT engine.
        transfers: transfer plans as printed, by the name of the training run.
        config: the resolved configuration.
        versions: of packages.
    """

    curves: Mapping[str, Sequence[CurvePoint]] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    data: Sequence[DataTable] = ()
    leakage: LeakageReport | None = None
    translation: Mapping[str, TextScore] = field(default_factory=dict)
    transfers: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
