"""The running average of the weights: what it is, what is validated and saved, and its resume."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_loop import QUIET, Points, options
from torch import Tensor, nn

from xlst_ray.train.checkpoint import TrainState, average_weights, list_checkpoints
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.task import LossSum


class Watched(Points):
    """Points whose validation finds the model's a."""

    def dev_batches(self):  # type: ignore[no-untyped-def]
        yield {}

    def loss(self, model: nn.Module, batch: Tensor | dict[str, float]) -> LossSum:
        return LossSum(model.a.detach().clone(), 1) if isinstance(batch, dict) else super().loss(model, batch)


def saved(folder: Path, file: str) -> list[float]:
    return [load_file(path / file)["a"].item() for path in list_checkpoints(folder)]


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_it_is_what_it_is_said_to_be_and_what_is_validated(tmp_path: Path, decay: float) -> None:
    """Against the definition, from the weights after every update."""
    task, shown = Watched(), []

    def show(path: Path | None, state: TrainState) -> None:
        shown.append(task.model.a.item())

    state = fit(task, options(ema=decay), tmp_path, Observer(lambda _: None, show), seed=0)
    average, expected = 0.0, []
    for number, value in enumerate(saved(tmp_path, "model.safetensors"), 1):
        kept = min(decay, (1 + number) / (10 + number))
        average = kept * average + (1 - kept) * value
        expected.append(average)
    assert saved(tmp_path, "average.safetensors") == pytest.approx(expected, rel=1e-5)
    assert [entry["loss"] for entry in state.validations] == saved(tmp_path, "average.safetensors")
    assert shown == saved(tmp_path, "average.safetensors"), "and what an observer may show"
    assert task.model.a.item() == saved(tmp_path, "model.safetensors")[-1], "training goes on with its own"


def test_training_itself_is_what_it_is_without(tmp_path: Path) -> None:
    fit(Points(), options(), tmp_path / "without", QUIET, seed=0)
    fit(Points(), options(ema=0.9), tmp_path / "with", QUIET, seed=0)
    assert saved(tmp_path / "without", "model.safetensors") == saved(tmp_path / "with", "model.safetensors")
    assert not list((tmp_path / "without").glob("*/average.safetensors"))


def test_a_resume_goes_on_alike(tmp_path: Path) -> None:
    whole = fit(Watched(), options(ema=0.9), tmp_path / "whole", QUIET, seed=0)
    fit(Watched(), options(ema=0.9, updates=5), tmp_path / "cut", QUIET, seed=0)
    resume = list_checkpoints(tmp_path / "cut")[-1]
    state = fit(Watched(), options(ema=0.9), tmp_path / "cut", QUIET, seed=0, resume=resume)
    assert state.validations == whole.validations
    assert saved(tmp_path / "cut", "average.safetensors") == saved(tmp_path / "whole", "average.safetensors")


def test_the_final_weights_are_the_mean_of_the_running_averages(tmp_path: Path) -> None:
    fit(Points(), options(ema=0.9), tmp_path, QUIET, seed=0)
    last = list_checkpoints(tmp_path)[-3:]
    expected = torch.stack([load_file(path / "average.safetensors")["a"] for path in last]).double().mean().float()
    assert torch.equal(average_weights(last)["a"], expected)
