"""The training loop: updates, validations, checkpoints, early stopping, resume; in a plain process and under Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW

from xlst_ray.errors import TrainingError
from xlst_ray.train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from xlst_ray.train.meter import Meter, Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.schedule import inverse_sqrt
from xlst_ray.train.step import World, update_model, validate
from xlst_ray.train.task import B, Position, Task


@dataclass(frozen=True)
class Observer:
    """How the loop's surroundings hear of it; every rank calls `checkpoint`, rank 0 alone has a folder to give.

    Attributes:
        progress: called every `log_every` updates on rank 0.
        checkpoint: called after each validation with (folder or none, state).
    """

    progress: Callable[[Progress], None]
    checkpoint: Callable[[Path | None, TrainState], None]


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
    """
    world = replace(world or World(), bf16=options.precision == "bf16")
    task.model.to(world.device).train()
    optimizer = AdamW(
        task.model.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True
    )
    state = TrainState() if resume is None else load_checkpoint(resume, task.model, optimizer)
    if state.update >= options.updates or _out_of_patience(state, options):
        return state
    meter = Meter(options, state, observer.progress if world.rank == 0 else None)
    batches = task.batches(state.position)
    parallel, frozen = task.model, None
    while state.update < options.updates and not _out_of_patience(state, options):
        update = state.update + 1
        if task.frozen(update) != frozen:
            frozen = task.frozen(update)
            parallel = _freeze(task.model, frozen, world)
        group, position = meter.wait(lambda: _take(batches, options.accumulate))
        lr = inverse_sqrt(update, peak=options.lr, warmup=options.warmup)
        for parameters in optimizer.param_groups:
            parameters["lr"] = lr
        torch.manual_seed(_seed_of(seed, update, world.rank))
        logs = update_model(task, parallel, optimizer, group, world, options.clip_norm)
        state = replace(state, update=update, position=position)
        meter.count(update, logs, lr)
        if update % options.validate_every == 0 or update == options.updates:
            state = _validate_and_save(task, optimizer, folder, observer, world, replace(state, seconds=meter.seconds))
    return state


def _validate_and_save(
    task: Task[B], optimizer: AdamW, folder: Path, observer: Observer, world: World, state: TrainState
) -> TrainState:
    scores = {"update": float(state.update), **validate(task, world)}
    state = replace(state, validations=(*state.validations, scores))
    path = save_checkpoint(folder, task.model, optimizer, state) if world.rank == 0 else None
    observer.checkpoint(path, state)
    return state


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
