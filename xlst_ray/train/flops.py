"""Floating-point operations of an update, counted; and what devices can do at most.

They are those of the model as it is (PaLM's model FLOPs, Chowdhery et al. 2022, appendix B): what is computed a second
time to spare memory does not count, what is frozen has no backward pass.
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from xlst_ray.model.wrapped import unwrapped
from xlst_ray.train.step import World
from xlst_ray.train.task import B, Shape, Shaped, Task

Cost: TypeAlias = Callable[[Shape], float]  # FLOPs of the forward and backward pass of a batch
# A batch costs a sum of these terms in B, T and U, whose factors are solved for.
_SHAPES: Final = tuple(
    Shape(*sizes)
    for sizes in (
        (1, 64, 8), (1, 128, 8), (1, 256, 8), (1, 64, 16), (1, 64, 32), (1, 128, 16), (2, 64, 8), (2, 128, 8)
    )
)  # fmt: skip

# Dense 16-bit tensor-core peaks with float32 accumulation, TFLOP/s, from NVIDIA's data sheets and architecture papers
# (where those name a figure with sparsity: half of it). The first of the names that stands in the device's.
_PEAKS: Final = {
    "B200": 2250.0, "H200 NVL": 835.5, "H200": 989.4, "GH200": 989.4, "H100 PCIe": 756.5, "H100 NVL": 835.5,
    "H100": 989.4, "A100": 312.0, "A30": 165.0, "A40": 149.7, "A10G": 70.0, "A10": 125.0, "L40S": 362.05, "L40": 181.05,
    "L4": 121.0, "RTX A6000": 154.8, "RTX 6000 Ada": 364.2, "RTX 4090": 165.2, "RTX 3090": 71.0, "V100": 125.0,
    "T4": 65.0,
}  # fmt: skip
_WITHOUT_BF16: Final = ("V100", "T4")


def peak(device: torch.device, precision: str) -> float | None:
    """Most FLOP/s that a device can do in a 16-bit precision; none: of fp32, of a CPU, and where it is not known."""
    if device.type != "cuda" or precision == "fp32":
        return None
    return peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """`peak` of a GPU by its name."""
    found = next((known for known in _PEAKS if re.search(rf"\b{known}\b", name)), None)
    if found is None or (precision == "bf16" and found in _WITHOUT_BF16):
        return None
    return _PEAKS[found] * 1e12


def count_flops(task: Task[B], world: World) -> Cost | None:
    """What batches cost with what trains now; none where the task has no example batches.

    Small ones are run through and counted, which leaves random numbers as they are.
    """
    if not isinstance(task, Shaped):
        return None
    with torch.random.fork_rng(), unwrapped(task.model), sdpa_kernel(SDPBackend.MATH):
        counts = [_count(task, task.example(shape), world) for shape in _SHAPES]
    task.model.zero_grad(set_to_none=True)
    factors, *_ = np.linalg.lstsq(np.array([_terms(shape) for shape in _SHAPES]), np.array(counts), rcond=None)
    return lambda shape: float(np.dot(_terms(shape), factors))


def _terms(shape: Shape) -> list[float]:
    b, t, u = shape.utterances, shape.frames / 64, shape.tokens / 8
    return [b * t, b * t * t, b * u, b * u * u, b * t * u, t, 1.0]


def _count(task: Task[B], batch: B, world: World) -> int:
    with _Counter() as counter:
        with world.autocast():
            result = task.loss(task.model, batch)
        result.loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.total)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """torch's `FlopCounterMode` without its account by module, which takes ten times as long."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if func.name() == "mkldnn::_linear_pointwise":  # `xlst_ray.model.linear`
            self.total += 2 * args[0].numel() * len(args[1])
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
