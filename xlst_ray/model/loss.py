"""The decoder's loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from xlst_ray.text.ids import PAD


class TokenLoss(NamedTuple):
    """Sums over the target tokens of a batch; scalars.

    Attributes:
        loss: smoothed cross entropy, with a graph.
        nll: cross entropy without smoothing, detached.
        correct: tokens whose logit is the largest.
        tokens: target tokens, pads left out.
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor
    tokens: int


def label_smoothed_sum(logits: Tensor, targets: Tensor, smoothing: float, ignored: int = PAD) -> TokenLoss:
    """Cross entropy against targets that keep 1 - `smoothing`; the rest is spread over all V tokens, theirs included.

    That is torch's `label_smoothing` and fairseq's before 2021 (later it is spread over the other V - 1, which is the
    same at smoothing * V / (V - 1)). Computed in float32.

    Args:
        logits: (B, U, V).
        targets: (B, U). On the CPU wherever the logits are: nothing here waits for a GPU.
        smoothing: 0 up to 1.
        ignored: the target that does not count.
    """
    flat = targets.flatten()
    real = (flat != ignored).nonzero()[:, 0]
    where, wanted = send(real, logits.device), send(flat[real], logits.device)
    log_probs = logits.flatten(0, 1)[where].float().log_softmax(-1)
    nll = -log_probs.gather(1, wanted[:, None]).sum()
    loss = (1 - smoothing) * nll - smoothing * log_probs.mean(-1).sum()
    correct = (log_probs.argmax(-1) == wanted).sum()
    return TokenLoss(loss, nll.detach(), correct, len(real))


def send(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU to where it is used; a GPU goes on with what it does meanwhile, and so does the caller."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
