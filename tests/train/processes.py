"""Trainings that the tests run in this process and in others: on two ranks, and to be killed."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import tones
import torch
import torch.distributed as dist

from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import Planned
from xlst_ray.batches.position import Position
from xlst_ray.errors import TrainingError
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.train.checkpoint import TrainState, list_checkpoints, prune_checkpoints, weights
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World, update_model

OPTIONS = TrainOptions(updates=4, lr=1e-3, warmup=1, validate_every=2, label_smoothing=0.1, ctc_weight=0.3)
SILENT = Observer(lambda progress: None, lambda path, state: None)


def build_model(seed: int = 0, **changes: object) -> S2TModel:
    torch.manual_seed(seed)
    return S2TModel(ModelOptions(size="debug", **changes).architecture(), tones.VOCABULARY)


class Dealt:
    """A `BatchSource` of given batches: rank r of w takes every w-th from the r-th on; rank 0 alone validates.

    Positions count the batches of all ranks.
    """

    def __init__(self, batches: Sequence[Batch], world: World) -> None:
        self._all, self._world, self._rank = batches, world, world.rank

    def train(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        epoch, first, each = start.epoch, start.batch, self._world.planned
        while True:
            for step in range(first, len(self._all), each):
                for rank in self._world.shares:
                    yield self._all[step + rank], Position(epoch, step + each)
            epoch, first = epoch + 1, 0

    def dev(self) -> Iterator[Batch]:
        return iter(self._all[:1] if self._rank == 0 else [])


def load(shards: str, parts: Sequence[Sequence[int]]) -> list[Batch]:
    loader = tones.loader(shards)
    return [loader.load(Planned.once(np.array(rows))) for rows in parts]


def one_update(
    batches: Sequence[Batch], world: World, clip_norm: float = 1e9
) -> tuple[dict[str, Any], dict[str, float]]:
    """Gradients and logs of an update of a new model on this rank's share: contiguous parts, of `batches`."""
    model = build_model()
    each = len(batches) // world.size
    mine = batches[world.rank * each : (world.rank + 1) * each]
    task = SpeechTask(model, Dealt(mine, World()), OPTIONS)
    nothing = torch.optim.SGD(model.parameters(), lr=0.0)
    logs = update_model(task, world.parallel(model), nothing, mine, world, clip_norm)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, logs


def update_of(world: World, shards: str, parts: Sequence[Sequence[int]]) -> tuple[dict[str, Any], dict[str, float]]:
    return one_update(load(shards, parts), world)


def fit_dealt(
    world: World, shards: str, parts: Sequence[Sequence[int]], folder: Path, accumulate: int, dropout: float = 0.0
) -> dict[str, Any]:
    """A fit whose encoder is frozen until update 3."""
    model, batches = build_model(dropout=dropout), load(shards, parts)
    freeze = {name: 3 for name, _ in model.named_parameters() if name.startswith("encoder.")}
    options = OPTIONS.replace(accumulate=accumulate)
    task = SpeechTask(model, Dealt(batches, world), options, freeze=freeze)
    state = fit(task, options, folder, SILENT, seed=1, world=world)
    return {"weights": weights(model), "validations": list(state.validations)}


def refuses_a_number_that_is_none(world: World, shards: str, parts: Sequence[Sequence[int]]) -> bool:
    """Whether this rank hears that the loss of the last one is not a number."""
    batches = load(shards, parts)
    if world.rank == world.size - 1:
        batches[world.rank].features[:] = np.nan
    try:
        one_update(batches, world)
    except TrainingError:
        return True
    return False


def fit_shared_out(
    world: World, shards: str, parts: Sequence[Sequence[int]], folder: Path, updates: int = 4, **changes: Any
) -> dict[str, Any]:
    """A fit that goes on from the last checkpoint in `folder`, with a subsampler that is frozen until update 3 and a
    bias that is for good."""
    model, batches = build_model(), load(shards, parts)
    freeze = {name: 3 for name, _ in model.named_parameters() if name.startswith("encoder.conv.")}
    freeze["encoder.layers.0.fc1.bias"] = 99
    options = OPTIONS.replace(updates=updates, accumulate=2 // world.size, ema=0.9, **changes)
    task = SpeechTask(model, Dealt(batches, world), options, freeze=freeze)
    done = list_checkpoints(folder)
    state = fit(task, options, folder, SILENT, seed=1, world=world, resume=done[-1] if done else None)
    return {"weights": weights(model), "validations": list(state.validations)}


def says_which_batch_it_was(
    world: World, shards: str, parts: Sequence[Sequence[int]], folder: Path, **changes: Any
) -> dict[str, str]:
    """What each rank hears of a batch of the last rank's second update."""
    batches = load(shards, parts)
    batches[2 * world.size - 1].features[:, 3] = np.nan
    options = OPTIONS.replace(**changes)
    task = SpeechTask(build_model(), Dealt(batches, world), options)
    try:
        fit(task, options, folder, SILENT, seed=1, world=world)
    except TrainingError as error:
        return {"what": error.what, "where": error.where or ""}
    return {}


def rank_main(
    rank: int, size: int, folder: Path, scenarios: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]
) -> None:
    """The body of a rank: every scenario with its arguments and this rank's world."""
    torch.set_num_threads(1)
    rendezvous, patience = f"file://{folder}/rendezvous", timedelta(minutes=2)  # rather than the half hour of gloo
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size, timeout=patience)
    world = World(rank, size)
    torch.save([scenario(world, *arguments) for scenario, arguments in scenarios], folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def train_with_dropout_and_masks(shards: str, folder: Path, tell: Callable[[Progress], None]) -> TrainState:
    """A training with everything random in it, that goes on from the last checkpoint in `folder`."""
    torch.set_num_threads(1)
    options = OPTIONS.replace(updates=12, warmup=4, accumulate=2, log_every=1)
    batch = BatchOptions(max_utterances=3)
    source = tones.source(shards, batch, AugmentOptions(policy="lb", freq_width=10, time_width=20))
    model = build_model(dropout=0.2)
    freeze = {name: 5 for name, _ in model.named_parameters() if name.startswith("encoder.conv.")}
    done = list_checkpoints(folder)

    def keep(_: Path | None, state: TrainState) -> None:
        prune_checkpoints(folder, list_checkpoints(folder)[-2:])

    task = SpeechTask(model, source, options, freeze=freeze)
    return fit(task, options, folder, Observer(tell, keep), seed=3, resume=done[-1] if done else None)


def train_and_tell(shards: str, folder: Path, connection: Connection) -> None:
    train_with_dropout_and_masks(shards, folder, lambda progress: connection.send(progress.update))
    connection.recv()  # done before it was killed: wait for that
