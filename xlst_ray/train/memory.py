"""Whether a batch fits the memory of the device: tried on a GPU, measured on a CPU."""

import weakref
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xlst_ray.errors import ConfigError
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import B, Shape, Shaped, Task

GIB: Final = 2**30
SHARE_OF_GPU: Final = 0.9  # that is filled: what comes in other sizes leaves gaps


class Memory:
    """What a training process has room for, beside weights, gradients, the optimiser's moments and a running average.

    Args:
        task: its examples are tried, with all that ever trains.
        budget: GiB; none: `SHARE_OF_GPU` of the device's.

    Raises:
        ConfigError: on a CPU, without a budget.
    """

    def __init__(self, task: Task[B], options: TrainOptions, world: World, budget: float | None) -> None:
        if budget is None and world.device.type != "cuda":
            raise ConfigError(
                "how much memory a training process has is not known on a CPU",
                where="batch.memory",
                hint="name it in GiB, or leave batch.fit out",
            )
        self._task, self._world, self._budget = task, world, budget
        frozen = task.frozen(options.updates)
        for name, parameter in task.model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        task.model.to(world.device).train()
        self._copies = 2 + (options.ema is not None)  # the moments; gradients are there while a batch is tried

    @property
    def told(self) -> str:
        """How much it is, of what."""
        cuda = self._world.device.type == "cuda"
        of = f" of {torch.cuda.get_device_name(self._world.device)}" if cuda else ""
        return f"{SHARE_OF_GPU:.0%}{of}" if self._budget is None else f"{self._budget:g} GiB{of}"

    def fits(self, utterances: int, frames: int, tokens: int) -> bool:
        """Whether a forward and backward pass with so many utterances fits."""
        shape = Shape(utterances, frames, tokens)
        try:
            return self._fits_gpu(shape) if self._world.device.type == "cuda" else self._fits_cpu(shape)
        finally:
            self._task.model.zero_grad(set_to_none=True)

    def _fits_gpu(self, shape: Shape) -> bool:
        device = self._world.device
        total = torch.cuda.get_device_properties(device).total_memory
        share = SHARE_OF_GPU if self._budget is None else self._budget * GIB / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
        try:
            kept = [torch.empty_like(p) for p in _training(self._task.model) for _ in range(self._copies)]
            self._try(shape)
            del kept
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
            torch.cuda.empty_cache()
        return True

    def _fits_cpu(self, shape: Shape) -> bool:
        own = sum(p.nbytes for p in self._task.model.parameters())
        own += self._copies * sum(p.nbytes for p in _training(self._task.model))
        with _Peak() as peak:
            self._try(shape)
        return bool(own + peak.bytes <= (self._budget or 0) * GIB)

    def _try(self, shape: Shape) -> None:
        assert isinstance(self._task, Shaped)
        for parameter in _training(self._task.model):
            parameter.grad = torch.zeros_like(parameter)  # of the batches accumulated before
        with self._world.autocast():
            result = self._task.loss(self._task.model, self._task.example(shape))
        result.loss.backward()  # type: ignore[no-untyped-call]


def _training(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors made within take at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self._now += size
            self.bytes = max(self.bytes, self._now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size
