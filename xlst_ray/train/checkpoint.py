"""Checkpoints as folders: whole or not there, and averaged at the end.

`update-0000800/` holds `model.safetensors`, `optimizer.pt` (read with `weights_only`) and `state.json`, with a running
average of the weights `average.safetensors`, and in float16 `scaler.json`. Of a model that is shared out (`shard.py`)
weights, moments and average are together in the folder `shards`.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from xlst_ray.batches.position import START, Position
from xlst_ray.errors import TrainingError
from xlst_ray.train.average import RunningAverage
from xlst_ray.train.shard import SHARDS, load_shards, read_shards, save_shards, whole
from xlst_ray.train.step import World

WEIGHTS: Final = "model.safetensors"
AVERAGE: Final = "average.safetensors"
LEAST_SPACE: Final = 1 << 20  # bytes: a disk with less is full


@dataclass(frozen=True)
class TrainState:
    """Where training stands after an update.

    Attributes:
        update: updates done.
        position: the next batch of every rank.
        seconds: wall time of the updates so far, over all resumed runs.
        validations: one entry a validation: `update`, `loss`, `accuracy`, ... of the development set.
        skipped: updates that float16 left out because their gradient overflowed. skipped_in_a_row: the last ones.
    """

    update: int = 0
    position: Position = START
    seconds: float = 0.0
    validations: tuple[dict[str, float], ...] = ()
    skipped: int = 0
    skipped_in_a_row: int = 0

    @property
    def validated(self) -> bool:
        """Whether this update was validated: others are saved where training is interrupted, and not averaged."""
        return bool(self.validations) and self.validations[-1]["update"] == self.update


@dataclass(frozen=True)
class Learner:
    """What updates change: the model, its optimiser, the scale of the loss in float16, the running average.

    `sharded`: they are shared out among the processes, and checkpoints are written by all of them.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler | None = None
    average: RunningAverage | None = None
    sharded: bool = False

    def averaged(self) -> AbstractContextManager[None]:
        """The model has the weights that are validated and exported within the block."""
        return nullcontext() if self.average is None else self.average.applied()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, each once, where tensors are shared (tied embeddings).

    Where a model is shared out this is to be called on all processes.
    """
    return {name: whole(parameter.detach()) for name, parameter in model.named_parameters()}


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


def save_checkpoint(folder: Path, learner: Learner, state: TrainState, world: World | None = None) -> Path | None:
    """Write `folder/update-NNNNNNN`, which appears when it is complete; where there is nothing to write here, none.

    To be called on every rank. `folder` is local, of each rank alone or of all.
    """
    world = world or World()
    if learner.sharded:
        return _save_sharded(folder, learner, state, world)
    if world.rank > 0:
        return None
    target = folder / checkpoint_name(state.update)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with _refuse_full(temporary):
        _save_tensors(weights(learner.model), temporary / WEIGHTS)
        with (temporary / "optimizer.pt").open("wb") as file:  # which torch itself leaves open where it cannot write
            torch.save(learner.optimizer.state_dict(), file)
        if learner.average is not None:
            _save_tensors(learner.average.values, temporary / AVERAGE)
        if learner.scaler is not None:
            (temporary / "scaler.json").write_text(json.dumps(learner.scaler.state_dict()))
        (temporary / "state.json").write_text(json.dumps(asdict(state)))
        return _publish(temporary, target)


@contextmanager
def _refuse_full(temporary: Path) -> Iterator[None]:
    """Of a disk that is full torch and safetensors say what they were writing, each in an error of its own."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or shutil.disk_usage(temporary).free < LEAST_SPACE
        shutil.rmtree(temporary, ignore_errors=True)
        if not full:
            raise
        hint = "make space and run the same command: it goes on from the checkpoint before"
        raise TrainingError("no space is left for a checkpoint", where=str(temporary.parent), hint=hint) from error


def _publish(temporary: Path, target: Path) -> Path:
    for file in filter(Path.is_file, temporary.rglob("*")):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    _remove(target)
    temporary.rename(target)
    return target


def _save_sharded(folder: Path, learner: Learner, state: TrainState, world: World) -> Path:
    target = folder / checkpoint_name(state.update)
    temporary = folder / f".{target.name}.tmp"
    if world.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    world.meet()
    (temporary / SHARDS).mkdir(parents=True, exist_ok=True)
    save_shards(temporary / SHARDS, _tensors(learner))
    if world.rank == 0:
        (temporary / "steps.json").write_text(json.dumps(_steps(learner)))
        (temporary / "state.json").write_text(json.dumps(asdict(state)))
    world.meet()
    if world.rank == 0:
        _publish(temporary, target)
    world.meet()
    if temporary.exists():  # a folder of this rank alone
        _publish(temporary, target)
    return target


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """All that is shared out, by names of its own."""
    moments = ("exp_avg", "exp_avg_sq")
    named, states = dict(learner.model.named_parameters()), learner.optimizer.state
    found = {f"{WEIGHTS}.{name}": value.detach() for name, value in named.items()}
    found |= {f"{part}.{name}": states[p][part] for name, p in named.items() if p in states for part in moments}
    average = {} if learner.average is None else learner.average.values
    return found | {f"{AVERAGE}.{name}": value for name, value in average.items()}


def _steps(learner: Learner) -> dict[str, float]:
    """Updates of each parameter that has had any: one that was frozen has fewer."""
    states = learner.optimizer.state
    return {name: float(states[p]["step"]) for name, p in learner.model.named_parameters() if p in states}


def _save_tensors(values: dict[str, Tensor], file: Path) -> None:
    save_file({name: value.cpu().contiguous() for name, value in values.items()}, file)


def _remove(checkpoint: Path) -> None:
    # Under another name first: a process killed here leaves no part of a checkpoint that looks like a whole one.
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(hidden)
        shutil.rmtree(hidden)


def read_state(checkpoint: Path) -> TrainState:
    values: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    position = Position(*values.pop("position")[:3])  # a fourth number, of ranks, is in those of earlier versions
    return TrainState(position=position, validations=tuple(values.pop("validations")), **values)


def load_checkpoint(checkpoint: Path, learner: Learner) -> TrainState:
    """Set what learns to a checkpoint, and return where training stood."""
    if learner.sharded:
        steps = json.loads((checkpoint / "steps.json").read_text())
        for name, parameter in learner.model.named_parameters():
            if name in steps:
                zeros = {part: torch.zeros_like(parameter.detach()) for part in ("exp_avg", "exp_avg_sq")}
                step = torch.tensor(steps[name], device=parameter.device)
                learner.optimizer.state[parameter] = {"step": step, **zeros}
        load_shards(checkpoint / SHARDS, _tensors(learner))
        return read_state(checkpoint)
    load_weights(learner.model, load_file(checkpoint / WEIGHTS))
    learner.optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", "cpu", weights_only=True))
    if learner.average is not None:
        learner.average.load(load_file(checkpoint / AVERAGE))
    if learner.scaler is not None:
        learner.scaler.load_state_dict(json.loads((checkpoint / "scaler.json").read_text()))
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
    """The mean of the checkpoints' weights (fairseq's `average_checkpoints`); of their running averages, if any."""
    total: dict[str, Tensor] = {}
    for path in checkpoints:
        for name, value in _exported(path).items():
            total[name] = total[name] + value.double() if name in total else value.double()
    return {name: (value / len(checkpoints)).float() for name, value in total.items()}


def _exported(checkpoint: Path) -> dict[str, Tensor]:
    """The running average of a checkpoint where it has one, else its weights."""
    if (checkpoint / SHARDS).exists():
        return read_shards(checkpoint / SHARDS, f"{AVERAGE}.") or read_shards(checkpoint / SHARDS, f"{WEIGHTS}.")
    average = checkpoint / AVERAGE
    values: dict[str, Tensor] = load_file(average if average.exists() else checkpoint / WEIGHTS)
    return values
