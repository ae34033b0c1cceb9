"""Connectionist temporal classification: the loss, what it needs, and greedy decoding of its output."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xlst_ray.text.ids import BLANK, EOS, PAD


def ctc_loss_sum(ctc_logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log-likelihood summed over the batch, in float32 whatever the logits are.

    An utterance with fewer encoder steps than its target needs (`ctc_frames_needed`) counts zero.

    Args:
        ctc_logits: (B, S, V). lengths: encoder steps (B).
        targets: (B, U) without `</s>`, what lies behind target_lengths (B) is ignored.
            Both lengths on the CPU wherever the logits are: torch wants them there, and nothing waits for a GPU.
    """
    log_probs = ctc_logits.float().log_softmax(-1).transpose(0, 1)
    sizes: tuple[Any, Any] = lengths.tolist(), target_lengths.tolist()  # which it takes, whatever its stub says
    return F.ctc_loss(log_probs, targets, *sizes, blank=BLANK, reduction="sum", zero_infinity=True)


def ctc_frames_needed(tokens: Sequence[int]) -> int:
    """Encoder steps that CTC needs at least: one a token, and a blank between two equal ones."""
    return len(tokens) + sum(one == other for one, other in pairwise(tokens))


def ctc_collapse(ctc_logits: Tensor, lengths: Tensor) -> list[tuple[int, ...]]:
    """The best path of each utterance, repeats joined, blanks and other specials but `<unk>` left out.

    Args:
        ctc_logits: (B, S, V). lengths: encoder steps (B).
    """
    best = ctc_logits.argmax(-1).cpu()
    collapsed = []
    for path, length in zip(best, lengths.tolist(), strict=True):
        kept = torch.unique_consecutive(path[:length]).tolist()
        collapsed.append(tuple(token for token in kept if token not in (BLANK, PAD, EOS)))
    return collapsed
