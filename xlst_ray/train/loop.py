"""The training loop: updates, validations, checkpoints, early stopping, resume; in a plain process and under Ray."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Generic

from torch import nn
from torch.amp import GradScaler
from torch.optim import AdamW, Optimizer

from xlst_ray.batches.position import Position
from xlst_ray.errors import ConfigError, Stopped, TrainingError
from xlst_ray.model.encoders import depths
from xlst_ray.train.average import RunningAverage
from xlst_ray.train.checkpoint import Learner, TrainState, load_checkpoint, save_checkpoint
from xlst_ray.train.flops import Cost, count_flops, peak
from xlst_ray.train.guard import Failure, explain
from xlst_ray.train.meter import Meter, Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.schedule import inverse_sqrt
from xlst_ray.train.seeds import seeds_of
from xlst_ray.train.shard import shard
from xlst_ray.train.step import AUTOCAST_TO, NotFiniteError, World, update_model, validate
from xlst_ray.train.task import B, Shaped, Task

MOST_SKIPPED: Final = 16  # updates in a row: the scale of the loss, at first 2^16, has come down to 1
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
        checkpoint: called on every rank with (folder, or none where this rank wrote nothing; state) after each
            validation, and after a wish: then no validation of this update is in the state.
        wish: called on every rank with each update done, and of one mind on all of them.
        keep: called on every rank with a folder that is to outlive a training that failed; returns where it is found.
    """

    progress: Callable[[Progress], None]
    checkpoint: Callable[[Path | None, TrainState], None]
    wish: Callable[[int], Wish] = lambda update: Wish.GO_ON
    keep: Callable[[Path], str] = str


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

    Every random choice is a function of (seed, update, rank of the plan, batch) or (seed, epoch), so that a run that
    was killed and resumed from its last checkpoint takes the same steps as one that was not, and so does one on
    another number of processes.

    Args:
        folder: where rank 0 writes checkpoints.
        resume: checkpoint to go on from.

    Raises:
        TrainingError: the loss or the gradient is not finite (`guard.py`), or every parameter is frozen.
        Stopped: the observer wished it; the checkpoint is written.
    """
    world = replace(world or World(), autocast_to=AUTOCAST_TO[options.precision])
    learner = _prepare(task, options, world)
    state = TrainState() if resume is None else load_checkpoint(resume, learner)
    if state.update >= options.updates or _out_of_patience(state, options):
        return state
    training = _Training(task, options, folder, observer, seed, world, learner)
    with closing(task.batches(state.position)) as batches:
        return training.run(batches, state)


@dataclass(frozen=True)
class _Training(Generic[B]):
    """What stays the same from update to update."""

    task: Task[B]
    options: TrainOptions
    folder: Path
    observer: Observer
    seed: int
    world: World
    learner: Learner

    def run(self, batches: Iterator[tuple[B, Position]], state: TrainState) -> TrainState:
        """All updates from a state on."""
        task, options, world = self.task, self.options, self.world
        tell = self.observer.progress if world.rank == 0 else None
        meter = Meter(options, state, tell, peak(world.device, options.precision))
        parallel, frozen, cost = task.model, None, None
        while state.update < options.updates and not _out_of_patience(state, options):
            if (names := task.frozen(state.update + 1)) != frozen:
                frozen, parallel = names, _freeze(task.model, names, world)
                cost = count_flops(task, world)
            group, position = meter.wait(partial(_take, batches, options.accumulate * len(world.shares)))
            lr = _set_rate(self.learner.optimizer, state.update + 1, options)
            logs, state = self.update(parallel, group, state)
            state = replace(state, position=position, seconds=meter.seconds)
            meter.count(state.update, logs, lr, [task.extent(batch) for batch in group], _flops(task, cost, group))
            wish = self.observer.wish(state.update)
            due = state.update % options.validate_every == 0 or state.update == options.updates
            if due or wish is not Wish.GO_ON:
                state = self.save(state, validated=due)
            if wish is Wish.STOP:
                raise Stopped
        return state

    def update(
        self, parallel: nn.Module, batches: Sequence[B], state: TrainState
    ) -> tuple[dict[str, float], TrainState]:
        """The next update; raises `TrainingError` where it is not finite and float16 is not to blame."""
        number, learner = state.update + 1, self.learner
        failure = Failure(number, seeds_of(self.seed, number, self.world.shares, len(batches)))
        clip, scaler = self.options.clip_norm, learner.scaler
        try:
            logs = update_model(
                self.task, parallel, learner.optimizer, batches, self.world, clip, scaler, failure.seeds
            )
        except NotFiniteError:
            raise self._explain(batches, failure, scale=1.0) from None
        state = replace(state, update=number)
        if scaler is not None:
            skipped = "loss" not in logs
            logs |= {"skipped": float(skipped), "loss_scale": scaler.get_scale()}
            in_a_row = state.skipped_in_a_row + 1 if skipped else 0
            if in_a_row == MOST_SKIPPED:
                raise self._explain(batches, failure, scaler.get_scale() / scaler.get_backoff_factor())
            state = replace(state, skipped=state.skipped + skipped, skipped_in_a_row=in_a_row)
        if learner.average is not None:
            learner.average.update(number)
        return logs, state

    def _explain(self, batches: Sequence[B], failure: Failure, scale: float) -> TrainingError:
        return explain(self.task, batches, self.world, self.folder, failure, self.observer.keep, scale)

    def save(self, state: TrainState, *, validated: bool) -> TrainState:
        """A checkpoint of the state, which a validation becomes part of."""
        if validated:
            with self.learner.averaged():
                scores = {"update": float(state.update), **validate(self.task, self.world)}
            state = replace(state, validations=(*state.validations, scores))
        path = save_checkpoint(self.folder, self.learner, state, self.world)
        with self.learner.averaged():  # an observer may show what the model says
            self.observer.checkpoint(path, state)
        return state


def make_learner(model: nn.Module, options: TrainOptions, world: World) -> Learner:
    """What is to be updated, before the first update."""
    scaler = GradScaler(world.device.type) if options.precision == "fp16" else None
    average = None if options.ema is None else RunningAverage(model, options.ema)
    return Learner(model, make_optimizer(model, options), scaler, average, options.parallel == "fsdp")


def _prepare(task: Task[B], options: TrainOptions, world: World) -> Learner:
    """Bring the model to where it is trained, in training mode; what is to be updated of it.

    Raises:
        TrainingError: it is to be shared out among processes that would take different numbers of batches.
    """
    if options.parallel == "fsdp" and world.size > 1:
        if not isinstance(task, Shaped) or world.planned % world.size:
            raise TrainingError(
                f"{world.planned} ranks do not come out even on {world.size} processes that share one model",
                hint="set cluster.ranks to a multiple of cluster.workers, or train.parallel=ddp",
            )
        for name in task.frozen(options.updates):  # for good: they need no gradient
            task.model.get_parameter(name).requires_grad_(False)
        shard(task.model, world.device)
    else:
        task.model.to(world.device)
    task.model.train()
    return make_learner(task.model, options, world)


def make_optimizer(model: nn.Module, options: TrainOptions) -> AdamW:
    """AdamW, in which the layers of a pretrained encoder, and what `lr_scale` names, have shares of the learning rate.

    Raises:
        ConfigError: a pattern of `lr_scale` fits no parameter.
    """
    below, names = depths(model), [name for name, _ in model.named_parameters()]
    if idle := [pattern for pattern in options.lr_scale if not fnmatch.filter(names, pattern)]:
        hint = f"the modules here: {', '.join(name for name, _ in model.named_children())}"
        raise ConfigError(f"{idle[0]} fits no parameter", where="train.lr_scale", hint=hint)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        named = next((share for pattern, share in options.lr_scale.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)
        groups.setdefault(named * options.layer_decay ** below.get(name, 0), []).append(parameter)
    parameters = [{"params": members, _SHARE: share} for share, members in groups.items()]
    return AdamW(parameters, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def _set_rate(optimizer: Optimizer, update: int, options: TrainOptions) -> float:
    lr = inverse_sqrt(update, peak=options.lr, warmup=options.warmup)
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr * parameters.get(_SHARE, 1.0)  # checkpoints of before have none
    return lr


def _take(batches: Iterator[tuple[B, Position]], count: int) -> tuple[list[B], Position]:
    taken = list(islice(batches, count))
    return [batch for batch, _ in taken], taken[-1][1]


def _flops(task: Task[B], cost: Cost | None, batches: Sequence[B]) -> float:
    return sum(cost(task.shape(batch)) for batch in batches) if cost is not None and isinstance(task, Shaped) else 0.0


def _freeze(model: nn.Module, frozen: frozenset[str], world: World) -> nn.Module:
    """Let train what is not frozen, and wrap the model anew: DDP fixes its parameters when it is made."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("every parameter is frozen, there is nothing to train", hint="freeze less of the model")
    return world.parallel(model)


def _out_of_patience(state: TrainState, options: TrainOptions) -> bool:
    if options.patience is None or not state.validations:
        return False
    by = "loss" if options.average_by == "last" else options.average_by
    scores = [entry[by] for entry in state.validations]
    best = scores.index(max(scores) if by == "accuracy" else min(scores))  # the first: an equal one is no better
    return len(scores) - 1 - best >= options.patience
