"""TensorBoard's event files: curves at every progress line, scores and hypotheses at every validation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlst_ray.train.checkpoint import TrainState
from xlst_ray.train.loop import Observer
from xlst_ray.train.meter import Progress
from xlst_ray.train.task import Sample, Sampling, Task


class Board:
    """Writes what an observer of rank 0 hears into a folder.

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

    def watch(self, observer: Observer, task: Task[Any] | None) -> Observer:
        """The observer, whose progress and validations are written before it hears of them; `task`: whose samples."""

        def progress(found: Progress) -> None:
            self._progress(found)
            observer.progress(found)

        def checkpoint(path: Path | None, state: TrainState) -> None:
            if state.validated:
                self._validation(state, task.samples() if isinstance(task, Sampling) else [])
            observer.checkpoint(path, state)

        return replace(observer, progress=progress, checkpoint=checkpoint)

    def _progress(self, found: Progress) -> None:
        shares = {"data_wait": found.waiting, "padding": found.padding}
        audio = {"audio_hours_per_hour": found.audio_rate} if found.audio_rate else {}
        share = found.peak_share
        flops = {"tflops_per_second": found.flops / 1e12} if found.flops else {}
        flops |= {} if share is None else {"share_of_peak": share}
        values = {f"train/{name}": value for name, value in found.logs.items()}
        values |= {
            "train/lr": found.lr,
            **{f"speed/{name}": value for name, value in {**shares, **audio, **flops}.items()},
        }
        for name, value in values.items():
            self._writer.add_scalar(name, value, found.update)

    def _validation(self, state: TrainState, samples: list[Sample]) -> None:
        for name, value in state.validations[-1].items():
            if name != "update":
                self._writer.add_scalar(f"dev/{name}", value, state.update)
        if samples:
            rows = ["| utterance | reference | hypothesis |", "|---|---|---|"]
            rows += [f"| {' | '.join(map(_cell, sample))} |" for sample in samples]
            self._writer.add_text("dev/hypotheses", "\n".join(rows), state.update)
        self._writer.flush()
        self._written()


def _cell(text: str) -> str:
    """As it stands, in a table of Markdown."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
