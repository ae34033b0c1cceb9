"""What is shown of a training: curves at every progress line, scores and hypotheses at every validation.

To TensorBoard's event files here, and to MLflow in `tracking.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from xlst_ray.errors import Stopped
from xlst_ray.train.checkpoint import TrainState
from xlst_ray.train.loop import Observer
from xlst_ray.train.meter import Progress
from xlst_ray.train.task import Sample, Sampling, Task


class Board(Protocol):
    """Where the curves of one training go."""

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """Points of curves at an update."""
        ...

    def validation(self, scores: Mapping[str, float], samples: Sequence[Sample], update: int) -> None:
        """Scores of the development set at an update, and hypotheses, if there are any."""
        ...

    def close(self, error: BaseException | None) -> None:
        """The training has ended, with an error or without."""
        ...


class TensorBoard:
    """TensorBoard's event files in a folder.

    Args:
        folder: local.
        start: update that training goes on from: what an interrupted try wrote behind it is hidden.
        written: called when a validation is in the files.
    """

    def __init__(self, folder: Path, start: int, written: Callable[[], None] = lambda: None) -> None:
        # Imported here: it takes a second, and only trainings need it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1)
        self._written = written

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, update)

    def validation(self, scores: Mapping[str, float], samples: Sequence[Sample], update: int) -> None:
        self.scalars(scores, update)
        if samples:
            self._writer.add_text("dev/hypotheses", table_of(samples), update)
        self._writer.flush()
        self._written()

    def close(self, error: BaseException | None) -> None:
        self._writer.close()
        if error is None or isinstance(error, Stopped):  # the lines since the last validation
            self._written()


def watch(observer: Observer, task: Task[Any] | None, boards: Sequence[Board]) -> Observer:
    """The observer of rank 0, whose progress and validations are on the boards before it hears of them.

    Args:
        task: whose samples are shown.
    """

    def progress(found: Progress) -> None:
        for board in boards:
            board.scalars(_curves(found), found.update)
        observer.progress(found)

    def checkpoint(path: Path | None, state: TrainState) -> None:
        if state.validated:
            scores = {f"dev/{name}": value for name, value in state.validations[-1].items() if name != "update"}
            samples: list[Sample] = task.samples() if isinstance(task, Sampling) else []
            for board in boards:
                board.validation(scores, samples, state.update)
        observer.checkpoint(path, state)

    return replace(observer, progress=progress, checkpoint=checkpoint)


def _curves(found: Progress) -> dict[str, float]:
    """The points of a progress line, by the curves' names."""
    speed = {"data_wait": found.waiting, "padding": found.padding}
    if found.audio_rate:
        speed["audio_hours_per_hour"] = found.audio_rate
    if found.flops:
        speed["tflops_per_second"] = found.flops / 1e12
    if (share := found.peak_share) is not None:
        speed["share_of_peak"] = share
    return {
        **{f"train/{name}": value for name, value in found.logs.items()},
        "train/lr": found.lr,
        **{f"speed/{name}": value for name, value in speed.items()},
    }


def table_of(samples: Sequence[Sample]) -> str:
    """Samples as a table of Markdown."""
    rows = ["| utterance | reference | hypothesis |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {' | '.join(map(_cell, sample))} |" for sample in samples)])


def _cell(text: str) -> str:
    """As it stands, in a table of Markdown."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
