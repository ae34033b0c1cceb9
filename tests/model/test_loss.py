"""The smoothed loss against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from xlst_ray.model.loss import label_smoothed_sum
from xlst_ray.text.ids import PAD

TARGETS = torch.tensor([[4, 5, 2, PAD], [6, 2, PAD, PAD], [3, 3, 3, 2]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_torchs_label_smoothing_summed(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 9, requires_grad=True)
    found = label_smoothed_sum(logits, TARGETS, smoothing)
    (gradient,) = torch.autograd.grad(found.loss, logits)
    flat = (logits.flatten(0, 1), TARGETS.flatten())
    expected = F.cross_entropy(*flat, ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    torch.testing.assert_close(found.nll, F.cross_entropy(*flat, ignore_index=PAD, reduction="sum"))
    assert not found.nll.requires_grad


def test_it_counts_target_tokens_and_those_that_are_right() -> None:
    logits = F.one_hot(TARGETS, 9).float()
    logits[0, 0] = F.one_hot(torch.tensor(7), 9)
    found = label_smoothed_sum(logits, TARGETS, 0.1)
    assert (int(found.tokens), int(found.correct)) == (9, 8)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = (8 * torch.randn(3, 4, 9)).bfloat16()
    found = label_smoothed_sum(logits, TARGETS, 0.1)
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, label_smoothed_sum(logits.float(), TARGETS, 0.1).loss)
