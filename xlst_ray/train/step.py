"""One update: the losses of a few batches on every rank, normalised by their global count, and the optimiser's step."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from xlst_ray.errors import TrainingError
from xlst_ray.train.task import B, Task

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process among the training processes, and how it computes. Size 1 needs no process group.

    Attributes:
        rank, size: of the processes that there are.
        device: where it computes.
        bf16: whether matrix products are in bfloat16.
        ranks: those that share an update by the plan of its batches; none: `size`. Where processes were lost there are
            fewer than ranks, and each does the work of several, so that the update stays what it is.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    bf16: bool = False
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
        """For the forward pass: matrix products in bfloat16 where that is asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def total_by_name(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over all ranks where a rank may have no value of some name: one with no development batch."""
        gathered = [values]
        if self.size > 1:
            gathered = [{} for _ in range(self.size)]
            dist.all_gather_object(gathered, values)
        return {name: sum(part.get(name, 0.0) for part in gathered) for name in dict.fromkeys(chain(*gathered))}

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model as one replica of many: DDP over the parameters that train now."""
        return model if self.size == 1 else DistributedDataParallel(model, gradient_as_bucket_view=True)


def update_model(
    task: Task[B], model: nn.Module, optimizer: Optimizer, batches: Sequence[B], world: World, clip_norm: float
) -> dict[str, float]:
    """Train on this rank's batches of one update; the same on every rank.

    The gradient is that of (sum of losses over all batches and ranks) / (their target tokens), whatever the number of
    ranks and batches it was cut into.

    Returns:
        `loss` and the task's logs per target token, `grad_norm`, `tokens`.

    Raises:
        TrainingError: the loss or the gradient is not a number.
    """
    tokens = int(world.total(torch.tensor(sum(task.count(batch) for batch in batches))))
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for i, batch in enumerate(batches):
        with _gradients_kept_here(model, last=i + 1 == len(batches)):
            with world.autocast():
                result = task.loss(model, batch)
            (result.loss * (world.size / tokens)).backward()  # type: ignore[no-untyped-call]  # DDP averages over ranks
        for name, value in {"loss": result.loss.detach(), **result.logs}.items():
            sums[name] = sums.get(name, torch.zeros((), device=world.device)) + value
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], clip_norm)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"the gradient is not a number (loss {float(sums['loss']) / tokens})",
            hint="lower lr, lengthen warmup, or look for damaged audio with jobs/prepare.py's counts",
        )
    optimizer.step()
    totals = world.total(torch.stack(list(sums.values())))
    logs = {name: float(total) / tokens for name, total in zip(sums, totals, strict=True)}
    return {**logs, "grad_norm": float(norm), "tokens": float(tokens)}


def _gradients_kept_here(model: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Ranks exchange gradients once an update, at its last batch."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()


@torch.inference_mode()
def validate(task: Task[B], world: World) -> dict[str, float]:
    """The loss and the task's logs per target token over the development set; empty where there is none."""
    task.model.eval()
    sums: dict[str, Tensor] = {}
    tokens = 0
    for batch in task.dev_batches():
        with world.autocast():
            result = task.loss(task.model, batch)
        tokens += result.count
        for name, value in {"loss": result.loss, **result.logs}.items():
            sums[name] = sums.get(name, torch.zeros((), device=world.device)) + value
    task.model.train()
    totals = world.total_by_name({"tokens": float(tokens), **{name: float(value) for name, value in sums.items()}})
    counted = totals.pop("tokens")
    return {name: total / counted for name, total in totals.items()}
