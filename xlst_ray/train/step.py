"""One update: the losses of a few batches on every rank, normalised by their global count, and the optimiser's step."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from xlst_ray.errors import TrainingError
from xlst_ray.train.seeds import seeded
from xlst_ray.train.shard import whole
from xlst_ray.train.task import B, Shape, Shaped, Task

CPU = torch.device("cpu")
AUTOCAST_TO: Final = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # by TrainOptions.precision
T = TypeVar("T")


class NotFiniteError(TrainingError):
    """The loss or the gradient of an update is not finite; the weights are what they were."""


@dataclass(frozen=True)
class World:
    """This process among the training processes, and how it computes. Size 1 needs no process group.

    Attributes:
        rank, size: of the processes that there are.
        device: where it computes.
        autocast_to: the dtype of matrix products; none: that of the weights.
        ranks: those that share an update by the plan of its batches; none: `size`. Where processes were lost there are
            fewer than ranks, and each does the work of several, so that the update stays what it is.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    autocast_to: torch.dtype | None = None
    ranks: int | None = None

    @property
    def planned(self) -> int:
        """Ranks of the plan."""
        return self.ranks or self.size

    @property
    def shares(self) -> range:
        """The ranks of the plan whose batches this process trains on."""
        return range(self.rank, self.planned, self.size)

    def autocast(self) -> AbstractContextManager[object]:
        """For the forward pass: matrix products in a shorter dtype where that is asked for."""
        return torch.autocast(self.device.type, self.autocast_to, enabled=self.autocast_to is not None)

    def tokens(self, task: Task[B], batches: Sequence[B]) -> int:
        """Target tokens of an update: of some batches of this rank, and those of the others."""
        return int(self.total(torch.tensor(sum(task.count(batch) for batch in batches))))

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def total_by_name(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over all ranks where a rank may have no value of some name: one with no development batch."""
        gathered = self.gather(values)
        return {name: sum(part.get(name, 0.0) for part in gathered) for name in dict.fromkeys(chain(*gathered))}

    def first(self, value: T) -> T:
        """The value of rank 0."""
        return self.gather(value)[0]

    def meet(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        gathered = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(gathered, value)
        return gathered

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model as one replica of many: DDP over the parameters that train now. One that is shared out stays so."""
        alone = self.size == 1 or isinstance(model, FSDPModule)
        return model if alone else DistributedDataParallel(model, gradient_as_bucket_view=True)


def update_model(
    task: Task[B],
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[B],
    world: World,
    clip_norm: float,
    scaler: GradScaler | None = None,
    seeds: Sequence[int] = (),
) -> dict[str, float]:
    """Train on this rank's batches of one update; the same on every rank.

    The gradient is that of (sum of losses over all batches and ranks) / (their target tokens), whatever the number of
    ranks and batches it was cut into.

    Args:
        scaler: of the loss, for float16: where the gradient overflows the update is skipped, and the scale is halved.
        seeds: of torch's generators before each batch (`seeds.py`); none: they are left alone.

    Returns:
        `loss` and the task's logs per target token, `grad_norm`, `tokens`; of a skipped update `tokens` alone.

    Raises:
        NotFiniteError: the loss or the gradient is not finite, and there is no scaler.
    """
    scaler = scaler or GradScaler(world.device.type, enabled=False)
    tokens = world.tokens(task, batches)
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for i, batch in enumerate(seeded(batches, seeds, world.device)):
        with _gradients_kept_here(model, last=i + 1 == len(batches)):
            with world.autocast():
                result = task.loss(model, batch)
            loss = scaler.scale(result.loss * (world.size / tokens))  # DDP averages over ranks
            loss.backward()  # type: ignore[no-untyped-call]
        for name, value in {"loss": result.loss.detach(), **result.logs}.items():
            sums[name] = sums.get(name, torch.zeros((), device=world.device)) + value
    scaler.unscale_(optimizer)
    norm = whole(nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], clip_norm))
    # A GPU is asked once for all, before the optimiser's step, which it takes while the next batch is fetched.
    totals, own = world.total(torch.stack(list(sums.values()))), float(norm)
    if not math.isfinite(own) and not scaler.is_enabled():
        raise NotFiniteError(f"the gradient is not finite (loss {float(sums['loss']) / tokens})")
    scaler.step(optimizer)  # only where the gradient is finite
    scaler.update()
    if not math.isfinite(own):
        return {"tokens": float(tokens)}
    logs = {name: float(total) / tokens for name, total in zip(sums, totals, strict=True)}
    return {**logs, "grad_norm": own, "tokens": float(tokens)}


def _gradients_kept_here(model: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Ranks exchange gradients once an update, at its last batch."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()


@torch.no_grad()
def validate(task: Task[B], world: World) -> dict[str, float]:
    """The loss and the task's logs per target token over the development set; empty where there is none.

    A loss that is no number is infinite, so that no such model is ever the best.
    """
    task.model.eval()
    sums: dict[str, Tensor] = {}
    tokens = 0
    for batch in _in_step(task, world) if isinstance(task.model, FSDPModule) else task.dev_batches():
        with world.autocast():
            result = task.loss(task.model, _filler(task) if batch is None else batch)
        if batch is None:
            continue
        tokens += result.count
        for name, value in {"loss": result.loss, **result.logs}.items():
            sums[name] = sums.get(name, torch.zeros((), device=world.device)) + value
    task.model.train()
    if isinstance(task.model, FSDPModule):
        task.model.reshard()  # which else only a backward pass does
    totals = world.total_by_name({"tokens": float(tokens), **{name: float(value) for name, value in sums.items()}})
    counted = totals.pop("tokens")
    scores = {name: total / counted for name, total in totals.items()}
    if math.isnan(scores.get("loss", 0.0)):  # which compares as neither better nor worse
        scores["loss"] = math.inf
    return scores


def _in_step(task: Task[Any], world: World) -> Iterator[Any]:
    """Development batches, and none while other ranks have more: where a model is shared out all compute together."""
    batches = iter(task.dev_batches())
    batch = next(batches, None)
    while any(world.gather(batch is not None)):
        yield batch
        batch = next(batches, None)


def _filler(task: Task[Any]) -> Any:
    assert isinstance(task, Shaped), "only such tasks are shared out"
    return task.example(Shape(1, 64, 8))
