"""Linear layers by the faster of the libraries of matrix products that torch has on a CPU, and the norms before them.

torch gives float32 products to MKL, which uses AVX-512 on Intel's processors alone; oneDNN, which torch gives bfloat16
products to, uses it wherever it is: 240 against 105 GFLOP/s on a core of AMD's fifth EPYC. On Intel's they are alike,
and everywhere but on such a CPU this is `torch.nn.Linear`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` whose result, under autocast, is in the dtype of the products that it goes into.

    Autocast leaves it in float32, and casts it again for each product.
    """

    def forward(self, x: Tensor) -> Tensor:
        normed, device = super().forward(x), x.device.type
        return normed.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else normed


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., I) by weight (O, I) plus bias (O) -> (..., O)."""
    if not _is_for_onednn(x):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return result
    return _product(x, weight, bias)


def together(x: Tensor, *layers: Linear) -> tuple[Tensor, ...]:
    """What several layers, all with a bias, make of the same x (..., I); (..., O) each.

    Where gradients are taken it is one product of all their weights, as each product has some ten operations before
    and behind it; elsewhere putting the weights together would cost more than it spares.
    """
    if not torch.is_grad_enabled():
        return tuple(layer(x) for layer in layers)
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    return torch.split(linear(x, weight, bias), [layer.out_features for layer in layers], dim=-1)


@cache
def mkl_is_slow() -> bool:
    """Whether this is a CPU with AVX-512 on which MKL does not use it, and torch has oneDNN."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):  # type: ignore[no-untyped-call]
        return False
    about = Path("/proc/cpuinfo")
    ours = torch.backends.cpu.get_cpu_capability() == "AVX512" and about.exists()
    return ours and "GenuineIntel" not in about.read_text()


def _is_for_onednn(x: Tensor) -> bool:
    if torch.compiler.is_compiling():  # which chooses for itself, and does not know what `_product` calls
        return False
    there = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() > 1 and x.numel() > 0
    return there and not torch.is_autocast_enabled("cpu") and mkl_is_slow()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN; its operator is what torch.compile makes of linear layers on a CPU."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _product(grad, weight.t()) if to_x else None,
            _product(rows.t(), x.flatten(0, -2).t()) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )
