"""Dropout that is cheap on a CPU, where drawing a float for each element takes a quarter of a training step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LOWEST = torch.iinfo(torch.int64).min  # `random_(_LOWEST, None)` draws all 64 bits; `random_()` leaves the sign out


def drop(x: Tensor, p: float) -> Tensor:
    """Zeroes each element with probability `p` and scales the others so that the expectation stays.

    On a CPU a random byte decides over an element, so the probability is `p` rounded to 1/256 (at least 1/256), and
    the scale is that of the rounded one. Follows `torch.manual_seed`.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = min(max(round(p * 256), 1), 255)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(_LOWEST, None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * keep.to(x.dtype).mul_(256 / (256 - dropped))


class Dropout(nn.Module):
    """`torch.nn.Dropout` by `drop`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.p) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
