"""Checkpoints as folders: whole or not there, and averaged at the end.

`update-0000800/` holds `model.safetensors`, `optimizer.pt` (read with `weights_only`) and `state.json`.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from xlst_ray.batches.position import START, Position
from xlst_ray.errors import TrainingError


@dataclass(frozen=True)
class TrainState:
    """Where training stands after an update.

    Attributes:
        update: updates done.
        position: the next batch of every rank.
        seconds: wall time of the updates so far, over all resumed runs.
        validations: one entry a validation: `update`, `loss`, `accuracy`, ... of the development set.
    """

    update: int = 0
    position: Position = START
    seconds: float = 0.0
    validations: tuple[dict[str, float], ...] = ()

    @property
    def validated(self) -> bool:
        """Whether this update was validated: others are saved where training is interrupted, and not averaged."""
        return bool(self.validations) and self.validations[-1]["update"] == self.update


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, each once, where tensors are shared (tied embeddings)."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def load_weights(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Set every parameter. Raises `TrainingError` where names or shapes differ."""
    own = weights(model)
    shapes, others = ({(name, tuple(value.shape)) for name, value in side.items()} for side in (own, values))
    if shapes != others:
        different = sorted({name for name, _ in shapes ^ others})
        raise TrainingError(f"the checkpoint is of another model ({', '.join(different[:3])} ... differ)")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(values[name])


def checkpoint_name(update: int) -> str:
    return f"update-{update:07d}"


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, state: TrainState) -> Path:
    """Write `folder/update-NNNNNNN`, which appears when it is complete."""
    target = folder / checkpoint_name(state.update)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    values = {name: value.cpu().contiguous() for name, value in weights(model).items()}
    save_file(values, temporary / "model.safetensors")
    torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
    (temporary / "state.json").write_text(json.dumps(asdict(state)))
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    _remove(target)
    temporary.rename(target)
    return target


def _remove(checkpoint: Path) -> None:
    # Under another name first: a process killed here leaves no part of a checkpoint that looks like a whole one.
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(hidden)
        shutil.rmtree(hidden)


def read_state(checkpoint: Path) -> TrainState:
    values: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    position = Position(*values.pop("position"))
    return TrainState(position=position, validations=tuple(values.pop("validations")), **values)


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> TrainState:
    """Set model and optimiser to a checkpoint, and return where training stood."""
    load_weights(model, load_file(checkpoint / "model.safetensors"))
    optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", "cpu", weights_only=True))
    return read_state(checkpoint)


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(folder.glob("update-*"))


def prune_checkpoints(folder: Path, keep: Sequence[Path]) -> None:
    """Remove the checkpoints of a folder but those to keep."""
    for path in list_checkpoints(folder):
        if path not in keep:
            _remove(path)


def best_updates(validations: Sequence[dict[str, float]], count: int, by: str) -> list[int]:
    """The updates whose checkpoints are averaged: the last ones, or the best by `accuracy` or `loss`, in order."""
    if by == "last":
        chosen = list(validations[-count:])
    else:
        sign = -1 if by == "accuracy" else 1
        chosen = sorted(validations, key=lambda entry: (sign * entry[by], -entry["update"]))[:count]
    return sorted(int(entry["update"]) for entry in chosen)


def average_weights(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the checkpoints' weights (fairseq's `average_checkpoints`)."""
    total: dict[str, Tensor] = {}
    for path in checkpoints:
        for name, value in load_file(path / "model.safetensors").items():
            total[name] = total[name] + value.double() if name in total else value.double()
    return {name: (value / len(checkpoints)).float() for name, value in total.items()}
