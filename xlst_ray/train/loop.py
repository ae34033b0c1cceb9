"""The training loop: updates, validations, checkpoints, early stopping, resume; in a plain process and under Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.optim import AdamW

from xlst_ray.batches.position import Position
from xlst_ray.errors import Stopped, TrainingError
from xlst_ray.model.encoders import depths
from xlst_ray.train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from xlst_ray.train.meter import Meter, Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.schedule import inverse_sqrt
from xlst_ray.train.step import World, update_model, validate
from xlst_ray.train.task import B, Task

_SHARE: Final = "share"  # of the learning rate, of a group of parameters (Clark et al. 2020: layer-wise decay)


class Wish(Enum):
    """What the loop's surroundings ask of it between two updates."""

    GO_ON = "go on"
    SAVE = "save"  # a checkpoint at once: a machine is about to be taken away
    STOP = "stop"  # a checkpoint at once, and no further update


@dataclass(frozen=True)
class Observer:
    """How the loop and its surroundings hear of each other.

    Attributes:
        progress: called every `log_every` updates on rank 0.
        checkpoint: called on every rank with (folder on rank 0, none on others; state) after each validation, and after
            a wish: then no validation of this update is in the state.
        wish: called on every rank with each update done, and of one mind on all of them.
    """

    progress: Callable[[Progress], None]
    checkpoint: Callable[[Path | None, TrainState], None]
    wish: Callable[[int], Wish] = lambda update: Wish.GO_ON


def fit(
    task: Task[B],
    options: TrainOptions,
    folder: Path,
    observer: Observer,
    *,
    seed: int,
    world: World | None = None,
    resume: Path | None = None,
) -> TrainState:
    """Train to the last update or until patience ends, validating and writing a checkpoint every `validate_every`.

    Every random choice is a function of (seed, update, rank) or (seed, epoch), so that a run that was killed and
    resumed from its last checkpoint takes the same steps as one that was not.

    Args:
        folder: where rank 0 writes checkpoints.
        resume: checkpoint to go on from.

    Raises:
        TrainingError: the loss is no number, or every parameter is frozen.
        Stopped: the observer wished it; the checkpoint is written.
    """
    world = replace(world or World(), bf16=options.precision == "bf16")
    task.model.to(world.device).train()
    optimizer = make_optimizer(task.model, options)
    state = TrainState() if resume is None else load_checkpoint(resume, task.model, optimizer)
    if state.update >= options.updates or _out_of_patience(state, options):
        return state
    meter = Meter(options, state, observer.progress if world.rank == 0 else None)
    batches = task.batches(state.position)
    parallel, frozen = task.model, None
    while state.update < options.updates and not _out_of_patience(state, options):
        update = state.update + 1
        if (names := task.frozen(update)) != frozen:
            frozen, parallel = names, _freeze(task.model, names, world)
        group, position = meter.wait(lambda: _take(batches, options.accumulate * len(world.shares)))
        lr = _set_rate(optimizer, update, options)
        torch.manual_seed(_seed_of(seed, update, world.rank))
        logs = update_model(task, parallel, optimizer, group, world, options.clip_norm)
        state = replace(state, update=update, position=position, seconds=meter.seconds)
        meter.count(update, logs, lr, [task.extent(batch) for batch in group])
        wish = observer.wish(update)
        due = update % options.validate_every == 0 or update == options.updates
        if due or wish is not Wish.GO_ON:
            state = _save(task, optimizer, folder, observer, world, state, validated=due)
        if wish is Wish.STOP:
            raise Stopped
    return state


def _save(
    task: Task[B],
    optimizer: AdamW,
    folder: Path,
    observer: Observer,
    world: World,
    state: TrainState,
    *,
    validated: bool,
) -> TrainState:
    if validated:
        scores = {"update": float(state.update), **validate(task, world)}
        state = replace(state, validations=(*state.validations, scores))
    path = save_checkpoint(folder, task.model, optimizer, state) if world.rank == 0 else None
    observer.checkpoint(path, state)
    return state


def make_optimizer(model: nn.Module, options: TrainOptions) -> AdamW:
    """AdamW, in which the layers of a pretrained encoder have shares of the learning rate."""
    below = depths(model)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(options.layer_decay ** below.get(name, 0), []).append(parameter)
    parameters = [{"params": members, _SHARE: share} for share, members in groups.items()]
    return AdamW(parameters, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def _set_rate(optimizer: AdamW, update: int, options: TrainOptions) -> float:
    lr = inverse_sqrt(update, peak=options.lr, warmup=options.warmup)
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr * parameters.get(_SHARE, 1.0)  # checkpoints of before have none
    return lr


def _take(batches: Iterator[tuple[B, Position]], count: int) -> tuple[list[B], Position]:
    taken = list(islice(batches, count))
    return [batch for batch, _ in taken], taken[-1][1]


def _freeze(model: nn.Module, frozen: frozenset[str], world: World) -> nn.Module:
    """Let train what is not frozen, and wrap the model anew: DDP fixes its parameters when it is made."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("every parameter is frozen, there is nothing to train", hint="freeze less of the model")
    return world.parallel(model)


def _seed_of(seed: int, update: int, rank: int) -> int:
    return (seed * 1_000_003 + update) * 1_009 + rank


def _out_of_patience(state: TrainState, options: TrainOptions) -> bool:
    if options.patience is None or not state.validations:
        return False
    by = "loss" if options.average_by == "last" else options.average_by
    scores = [entry[by] for entry in state.validations]
    best = scores.index(max(scores) if by == "accuracy" else min(scores))  # the first: an equal one is no better
    return len(scores) - 1 - best >= options.patience
