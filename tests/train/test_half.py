"""Float16: the scale of the loss, updates that are left out, and a resume in their midst."""

from pathlib import Path

import processes
import pytest
import torch
from processes import SILENT, Dealt, build_model
from safetensors.torch import load_file
from test_loop import Points, options
from torch import Tensor, nn

from xlst_ray.errors import TrainingError
from xlst_ray.train.checkpoint import list_checkpoints, read_state
from xlst_ray.train.loop import MOST_SKIPPED, Observer, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World
from xlst_ray.train.task import Contents, LossSum


class Overflowing(Points):
    """Points whose gradient overflows at some updates."""

    def __init__(self, at: range) -> None:
        super().__init__()
        self.at, self.update = at, 0

    def loss(self, model: nn.Module, batch: Tensor | dict[str, float]) -> LossSum:
        found = super().loss(model, batch)
        if isinstance(batch, Tensor) and len(self.taken) in self.at:
            return LossSum(found.loss * 1e38, found.count)
        return found

    def contents(self, batch: Tensor) -> Contents:
        return Contents(("epoch", "number"), {"x": batch})


def weights(folder: Path, place: int) -> dict[str, Tensor]:
    return load_file(list_checkpoints(folder)[place] / "model.safetensors")


def test_an_update_that_overflows_is_left_out_and_counted(tmp_path: Path) -> None:
    lines: list[Progress] = []
    half = options(precision="fp16", updates=8, log_every=4)
    task = Overflowing(range(3, 5))
    state = fit(task, half, tmp_path, Observer(lines.append, lambda path, state: None), seed=0)
    values = [weights(tmp_path, place)["a"].item() for place in range(8)]
    assert values[1] == values[2] == values[3] != values[4]
    assert (state.skipped, state.skipped_in_a_row) == (2, 0)
    assert [line.logs["skipped"] for line in lines] == [0.5, 0.0]
    assert all(line.logs["loss"] < 1e3 and line.logs["grad_norm"] < 1e3 for line in lines), "without those left out"
    assert lines[-1].logs["loss_scale"] == 2**14


def test_a_resume_among_them_goes_on_alike(tmp_path: Path) -> None:
    """The same scale, the same count in a row."""
    half = options(precision="fp16", updates=8)
    whole = fit(Overflowing(range(3, 6)), half, tmp_path / "whole", SILENT, seed=0)
    fit(Overflowing(range(3, 6)), half.replace(updates=4), tmp_path / "cut", SILENT, seed=0)
    saved = list_checkpoints(tmp_path / "cut")[-1]
    assert read_state(saved).skipped_in_a_row == 2
    state = fit(Overflowing(range(1, 2)), half, tmp_path / "cut", SILENT, seed=0, resume=saved)
    assert (state.skipped, state.validations) == (whole.skipped, whole.validations)
    assert weights(tmp_path / "cut", -1) == weights(tmp_path / "whole", -1)
    assert (list_checkpoints(tmp_path / "cut")[-1] / "scaler.json").read_text() == (
        list_checkpoints(tmp_path / "whole")[-1] / "scaler.json"
    ).read_text()


def test_so_many_in_a_row_are_an_error(tmp_path: Path) -> None:
    half = options(precision="fp16", updates=40, validate_every=40)
    fit(Overflowing(range(3, 2 + MOST_SKIPPED)), half, tmp_path / "one-less", SILENT, seed=0)
    with pytest.raises(TrainingError, match="the gradient of update 18 is not finite in 1 of its batches"):
        fit(Overflowing(range(3, 99)), half, tmp_path / "all", SILENT, seed=0)
    assert (tmp_path / "all" / "not-finite" / "update-0000018" / "rank-0-batch-0.safetensors").exists()


@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
def test_a_model_learns_in_float16_as_in_float32(shards: str, tmp_path: Path, encoder: str) -> None:
    batches = processes.load(shards, [[0, 1, 2], [3, 4], [5, 6, 7]])
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        chosen = processes.OPTIONS.replace(updates=6, validate_every=3, precision=precision)
        task = SpeechTask(build_model(encoder=encoder), Dealt(batches, World()), chosen)
        state = fit(task, chosen, tmp_path / precision, SILENT, seed=1)
        assert state.skipped <= (precision == "fp16" and encoder == "conformer"), "at the first, highest scale"
        losses[precision] = [entry["loss"] for entry in state.validations]
        assert all(p.dtype == torch.float32 for p in task.model.parameters())
    assert losses["fp16"] != losses["fp32"], "it was computed otherwise"
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=5e-3 if encoder == "transformer" else 0.1)
    assert losses["fp16"][-1] < losses["fp16"][0]
