"""The decoder's loss."""

from typing import NamedTuple

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
    tokens: Tensor


def label_smoothed_sum(logits: Tensor, targets: Tensor, smoothing: float) -> TokenLoss:
    """Cross entropy against targets that keep 1 - `smoothing`; the rest is spread over all V tokens, theirs included.

    That is torch's `label_smoothing` and fairseq's before 2021 (later it is spread over the other V - 1, which is the
    same at smoothing * V / (V - 1)). Computed in float32.

    Args:
        logits: (B, U, V). targets: (B, U), `<pad>` is ignored. smoothing: 0 up to 1.
    """
    real = targets != PAD
    log_probs = logits[real].float().log_softmax(-1)
    wanted = targets[real]
    nll = -log_probs.gather(1, wanted[:, None]).sum()
    loss = (1 - smoothing) * nll - smoothing * log_probs.mean(-1).sum()
    correct = (log_probs.argmax(-1) == wanted).sum()
    return TokenLoss(loss, nll.detach(), correct, real.sum())
