"""CTC against a sum over all paths."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.model.ctc import ctc_collapse, ctc_frames_needed, ctc_loss_sum
from xlst_ray.text.ids import BLANK, EOS, PAD


def joined(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def test_the_loss_is_that_of_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 6)
    lengths, targets = torch.tensor([5, 4, 2]), torch.tensor([[4, 4, 5], [5, 3, EOS], [3, EOS, PAD]])
    target_lengths = torch.tensor([3, 2, 1])
    expected = 0.0
    for row, (length, size) in enumerate(zip(lengths.tolist(), target_lengths.tolist(), strict=True)):
        log_probs, wanted = logits[row].log_softmax(-1), tuple(targets[row, :size].tolist())
        paths = [path for path in itertools.product(range(6), repeat=length) if joined(path) == wanted]
        expected -= math.log(sum(math.exp(log_probs[range(length), path].sum()) for path in paths))
    found = ctc_loss_sum(logits, lengths, targets, target_lengths)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_an_utterance_too_short_for_its_target_counts_zero_and_leaves_gradients_finite() -> None:
    logits = torch.randn(2, 4, 6, requires_grad=True)
    targets, target_lengths = torch.tensor([[4, 4, 4], [4, 5, 4]]), torch.tensor([3, 3])
    both = ctc_loss_sum(logits, torch.tensor([4, 4]), targets, target_lengths)
    both.backward()
    torch.testing.assert_close(both, ctc_loss_sum(logits[1:], torch.tensor([4]), targets[1:], target_lengths[1:]))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0] == 0).all()


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(1, 8, 6).bfloat16()
    arguments = (torch.tensor([8]), torch.tensor([[3, 4]]), torch.tensor([2]))
    found = ctc_loss_sum(logits, *arguments)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ctc_loss_sum(logits.float(), *arguments))


@given(st.lists(st.integers(3, 5), max_size=4))
def test_frames_needed_is_the_shortest_path_that_reads_as_the_tokens(tokens: list[int]) -> None:
    needed = ctc_frames_needed(tokens)
    alphabet = [BLANK, *dict.fromkeys(tokens)]

    def readable(length: int) -> bool:
        return any(joined(path) == tuple(tokens) for path in itertools.product(alphabet, repeat=length))

    assert readable(needed)
    assert needed == 0 or not readable(needed - 1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(0, 12))
def test_collapsing_joins_repeats_and_leaves_specials_out(path: list[int], length: int) -> None:
    length = min(length, len(path))
    logits = torch.nn.functional.one_hot(torch.tensor([path]), 7).float()
    expected = tuple(token for token in joined(tuple(path[:length])) if token not in (PAD, EOS))
    assert ctc_collapse(logits, torch.tensor([length])) == [expected]
