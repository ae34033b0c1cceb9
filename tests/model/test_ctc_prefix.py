"""CTC prefix scores against a sum over all paths, and joint decoding against a look at all hypotheses there are."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from xlst_ray.model import ctc_prefix
from xlst_ray.model.beam import BeamOptions, beam_search
from xlst_ray.model.ctc import ctc_loss_sum
from xlst_ray.model.ctc_prefix import NEVER, CTCPrefixScorer
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BLANK, EOS, UNK

STEPS, VOCABULARY = 5, 5


def spell(path: tuple[int, ...]) -> tuple[int, ...]:
    """What a path of the CTC head spells: repeats joined, blanks left out."""
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def sum_of_paths(log_probs: Tensor, accept: Callable[[tuple[int, ...]], bool]) -> float:
    """log of the probability of all paths over (S, V) whose spelling is accepted."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if accept(spell(path)):
            total += math.exp(sum(float(log_probs[t, token]) for t, token in enumerate(path)))
    return math.log(total) if total else -math.inf


@pytest.fixture(params=["by step", "by scan"])
def recursion(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way to compute paths, the one for CPUs and the one for GPUs."""
    if request.param == "by scan":
        monkeypatch.setattr(ctc_prefix, "_paths_by_step", ctc_prefix._paths_by_scan)


@pytest.mark.usefixtures("recursion")
@pytest.mark.parametrize("tokens", [(3, 3, 1, 4), (4, 1, 4), (1, 1)])
def test_scores_are_the_sums_over_all_paths(tokens: tuple[int, ...]) -> None:
    """A prefix by all paths that begin so, `</s>` by all paths that spell just this; in a batch of two lengths."""
    logits = torch.randn(2, STEPS, VOCABULARY, generator=torch.Generator().manual_seed(len(tokens)))
    lengths = torch.tensor([STEPS, 3])
    scorer = CTCPrefixScorer(logits, lengths, beams=1)
    candidates = torch.tensor([1, EOS, 3, 4]).expand(2, 1, 4)
    last = torch.full((2, 1), EOS)
    for done in range(len(tokens)):
        prefix = tokens[:done]
        found = scorer.extend(candidates, last, done)
        for row, length in enumerate(lengths.tolist()):
            log_probs = logits[row, :length].log_softmax(-1)
            for place, token in enumerate(candidates[row, 0].tolist()):
                longer = (*prefix, token)
                expected = (
                    sum_of_paths(log_probs, lambda text, whole=prefix: text == whole)
                    if token == EOS
                    else sum_of_paths(log_probs, lambda text, part=longer: text[: len(part)] == part)
                )
                score = float(found[row, 0, place])
                assert score == pytest.approx(expected, abs=1e-4) if expected > -math.inf else score < NEVER / 2
        chosen = candidates[0, 0].tolist().index(tokens[done])
        last = torch.full((2, 1), tokens[done])
        scorer.choose(torch.zeros(2, 1, dtype=torch.long), last, found[:, :, chosen])


def joint_score(model: S2TModel, features: Tensor, lengths: Tensor, tokens: tuple[int, ...], weight: float) -> float:
    """(1 - w) attention + w CTC of a whole hypothesis, by the teacher-forced decoder and torch's own CTC loss."""
    targets = torch.tensor([[*tokens, EOS]])
    output = model(features, lengths, torch.tensor([[EOS, *tokens]]))
    attention = output.logits.log_softmax(-1).gather(2, targets[:, :, None]).sum()
    ctc = -ctc_loss_sum(output.ctc_logits, output.encoded_lengths, targets, torch.tensor([len(tokens)]))
    return float((1 - weight) * attention + weight * ctc)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weight", [0.3, 0.7])
def test_a_wide_joint_beam_finds_the_best_of_all_hypotheses(
    build: Callable[..., S2TModel], utterances: Callable[..., tuple[Tensor, Tensor]], seed: int, weight: float
) -> None:
    """Five tokens and at most three of them: 156 hypotheses, scored one by one; utterances in a batch of two."""
    model = build(vocabulary=8, seed=seed).double()
    with torch.no_grad():
        model.decoder.embed_tokens.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
        model.ctc.weight.normal_(0, 1.0, generator=torch.Generator().manual_seed(seed))
    features, lengths = utterances(40, 25, seed=seed)
    options = BeamOptions(
        beam=80, length_penalty=0.0, max_tokens_ratio=0.0, max_tokens=4, min_tokens=0, ctc_weight=weight
    )
    found = beam_search(model, features, lengths, options)
    texts = [text for size in range(4) for text in itertools.product(range(UNK, 8), repeat=size)]
    for row, length in enumerate(lengths.tolist()):
        alone = features[row : row + 1, :length], lengths[row : row + 1]
        with torch.inference_mode():
            scores = {text: joint_score(model, *alone, text, weight) for text in texts}
        best = max(scores, key=lambda text: scores[text])
        ended = [hypothesis for hypothesis in found[row] if hypothesis.finished]
        assert ended[0].tokens == best
        assert ended[0].score == pytest.approx(scores[best], abs=1e-3)


@pytest.mark.usefixtures("recursion")
@pytest.mark.parametrize("beam", [1, 4])
def test_speech_too_short_for_the_fewest_tokens_has_an_answer_all_the_same(
    build: Callable[..., S2TModel], utterances: Callable[..., tuple[Tensor, Tensor]], beam: int
) -> None:
    """As many tokens as CTC has steps for, and no fewer; longer speech of the same batch is what it is alone."""
    model = build().double()
    features, lengths = utterances(60, 9, 1)
    options = BeamOptions(beam=beam, min_tokens=8, ctc_weight=0.3)
    long, short, shortest = beam_search(model, features, lengths, options)
    assert long == beam_search(model, features[:1], lengths[:1], options)[0]
    assert all(len(one.tokens) >= 8 for one in long)
    for found, steps in zip((short, shortest), model.output_lengths(lengths)[1:].tolist(), strict=True):
        assert 1 <= len(found) <= beam
        assert all(one.finished and math.isfinite(one.score) and 1 <= len(one.tokens) <= steps < 8 for one in found)


@pytest.mark.parametrize("scale", [1.0, 30.0])  # 30: emissions whose products span thousands in the logarithm
def test_both_ways_to_compute_paths_agree_on_long_utterances(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = (scale * torch.randn(400, 2, 1, 6, generator=generator)).log_softmax(-1).double()
    emitted, blank = log_probs[..., 1:], log_probs[..., :1]
    first = emitted + 10 * torch.randn(emitted.shape, generator=generator)
    for steps in (0, 3):
        one, other = (
            way(first, emitted, blank, steps) for way in (ctc_prefix._paths_by_step, ctc_prefix._paths_by_scan)
        )
        possible = one > NEVER / 2
        assert possible.float().mean() > 0.9
        torch.testing.assert_close(one[possible], other[possible], atol=1e-8, rtol=1e-10)
        assert (other[~possible] < NEVER / 2).all()
