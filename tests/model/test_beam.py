"""Beam search against transformers' `generate`, and against a look at all hypotheses there are."""

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from xlst_ray.model.beam import (
    LONGEST_LOOP,
    LOOP_TIMES,
    LOOP_TOKENS,
    BeamOptions,
    Hypothesis,
    beam_search,
    is_looping,
    recognise,
)
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BLANK, BOS, EOS, PAD

attention = partial(BeamOptions, ctc_weight=0.0)
"""Of which `generate` and the brute force know."""

Build = Callable[..., S2TModel]
Utterances = Callable[..., tuple[Tensor, Tensor]]
Foreign = Callable[[S2TModel], nn.Module]
CLOSE = 1e-4  # scores are sums of float32 there and here


def lively(model: S2TModel, seed: int) -> S2TModel:
    """Weights with which hypotheses differ, end at many lengths, and overtake one another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.35, generator=generator)
        for parameter in model.decoder.layers.parameters():
            parameter.normal_(0, 0.8, generator=generator)
        model.decoder.embed_tokens.weight.normal_(0, 0.2, generator=generator)
        model.decoder.embed_tokens.weight[EOS] *= 2
        model.decoder.layer_norm.weight.normal_(0, 1.5, generator=generator)
    return model.double().eval()


def generate(theirs: Any, features: Tensor, options: BeamOptions, cap: int) -> list[list[Hypothesis]]:
    """What `generate` finds for utterances of one length."""
    found = theirs.generate(
        features,
        num_beams=options.beam,
        num_return_sequences=options.beam,
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        max_new_tokens=cap,
        min_new_tokens=options.min_tokens,
        suppress_tokens=[BOS, PAD],
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    hypotheses = []
    for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        tokens = [token for token in row[1:] if token != PAD]
        ended = bool(tokens) and tokens[-1] == EOS
        hypotheses.append(Hypothesis(tuple(tokens[:-1] if ended else tokens), score, ended))
    return [hypotheses[first : first + options.beam] for first in range(0, len(hypotheses), options.beam)]


def assert_same(ours: list[Hypothesis], theirs: list[Hypothesis]) -> None:
    assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=CLOSE)
    for rank, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        tied = any(abs(one.score - near.score) < CLOSE for near in theirs[:rank] + theirs[rank + 1 :])
        assert tied or (one.tokens, one.finished) == (other.tokens, other.finished)


@pytest.mark.parametrize("seed", range(8))
def test_a_padded_batch_has_the_hypotheses_that_generate_has_for_each_utterance_alone(
    build: Build, utterances: Utterances, foreign: Foreign, seed: int
) -> None:
    model = lively(build(decoder_layers=1), seed)
    theirs = foreign(model)
    features, lengths = utterances(60, 45, 31, 9, seed=seed)
    options = attention(beam=5, max_tokens_ratio=0.5, max_tokens=8, min_tokens=seed % 3)
    found = beam_search(model, features, lengths, options)
    for row, length in enumerate(lengths.tolist()):
        cap = int(model.output_lengths(lengths)[row] * 0.5) + 8
        assert_same(found[row], generate(theirs, features[row : row + 1, :length], options, cap)[0])


@pytest.mark.parametrize("seed", range(10))
def test_hypotheses_are_those_of_generate_at_any_size_penalty_and_early_stopping(
    build: Build, utterances: Utterances, foreign: Foreign, seed: int
) -> None:
    """Ten draws of all settings for each of ten models."""
    model, draw = lively(build(decoder_layers=1), 100 + seed), random.Random(seed)
    theirs = foreign(model)
    for number in range(10):
        features, lengths = utterances(*[draw.randint(5, 60)] * draw.randint(1, 6), seed=10 * seed + number)
        cap = draw.randint(3, 20)
        options = attention(
            beam=draw.randint(2, 6),
            length_penalty=draw.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
            early_stopping=draw.choice([True, False, "never"]),
            max_tokens_ratio=0,
            max_tokens=cap,
            min_tokens=draw.randint(0, 2),
        )
        found = beam_search(model, features, lengths, options)
        for ours, its in zip(found, generate(theirs, features, options, cap), strict=True):
            assert_same(ours, its)


def test_each_early_stopping_finds_other_hypotheses(build: Build, utterances: Utterances) -> None:
    """Else the comparison with `generate` would not tell them apart."""
    found = []
    for early_stopping in (True, False, "never"):
        options = attention(length_penalty=2.0, max_tokens_ratio=0, max_tokens=20, early_stopping=early_stopping)
        found.append([beam_search(lively(build(), seed), *utterances(40, seed=seed), options) for seed in range(10)])
    assert found[0] != found[1] != found[2]


def test_those_hypotheses_do_end_at_many_lengths(build: Build, utterances: Utterances) -> None:
    """Else the comparison with `generate` would say little."""
    options = attention(max_tokens_ratio=0.5, max_tokens=8)
    found = [
        one
        for seed in range(10)
        for best in beam_search(lively(build(decoder_layers=1), seed), *utterances(60, 45, 31, 9, seed=seed), options)
        for one in best
    ]
    assert len({len(one.tokens) for one in found if one.finished}) > 8
    assert 0.2 < sum(one.finished for one in found) / len(found) < 0.8
    assert len({one.tokens for one in found}) > 100


def test_a_beam_as_wide_as_all_prefixes_finds_the_best_of_all_hypotheses(build: Build, utterances: Utterances) -> None:
    model = lively(build(vocabulary=6), 7)
    features, lengths = utterances(21)
    cap = 3
    options = attention(beam=40, length_penalty=0.6, max_tokens_ratio=0, max_tokens=cap, min_tokens=0)
    ends = [tokens for size in range(cap) for tokens in itertools.product([3, 4, 5], repeat=size)]
    cut = list(itertools.product([3, 4, 5], repeat=cap))
    expected = []
    with torch.no_grad():
        encoded = model.encode(features, lengths)
        for tokens, finished in [(one, True) for one in ends] + [(one, False) for one in cut]:
            wanted = [*tokens, EOS] if finished else [*tokens]
            log_probs = model.decode(torch.tensor([[EOS, *wanted[:-1]]]), encoded).log_softmax(-1)[0]
            total = log_probs[range(len(wanted)), wanted].sum().item()
            expected.append(Hypothesis(tuple(tokens), total / len(wanted) ** 0.6, finished))
    expected.sort(key=lambda one: -one.score)
    (found,) = beam_search(model, features, lengths, options)
    assert len(found) == len(expected) == 40
    assert_same(found, expected)


def test_a_ctc_head_has_a_share_where_there_is_one_and_nothing_else_is_asked_for(
    build: Build, utterances: Utterances
) -> None:
    model = lively(build(), 3)
    features, lengths = utterances(40, 20)
    found = {weight: beam_search(model, features, lengths, BeamOptions(ctc_weight=weight)) for weight in (None, 0.3, 0)}
    assert found[None] == found[0.3] != found[0]
    model.ctc = None
    assert beam_search(model, features, lengths, BeamOptions()) == found[0]


def test_one_beam_without_length_penalty_is_greedy(build: Build, utterances: Utterances) -> None:
    model = lively(build(), 3)
    features, lengths = utterances(40)
    (best,) = beam_search(model, features, lengths, attention(beam=1, length_penalty=0, min_tokens=0))[0]
    tokens = [EOS]
    with torch.no_grad():
        encoded = model.encode(features, lengths)
        while len(tokens) <= len(best.tokens) + best.finished:
            logits = model.decode(torch.tensor([tokens]), encoded)[0, -1]
            logits[[BOS, PAD]] = -torch.inf
            tokens.append(int(logits.argmax()))
    assert tuple(tokens[1:]) == best.tokens + (EOS,) * best.finished


def test_the_model_comes_back_in_the_mode_it_was_in_and_dropout_stays_out(build: Build, utterances: Utterances) -> None:
    model = lively(build(dropout=0.5), 2)
    expected = recognise(model, *utterances(30, 20), attention())
    assert not model.training
    assert recognise(model.train(), *utterances(30, 20), attention()) == expected
    assert model.training


def test_ctc_has_the_best_path_up_to_the_length(build: Build, utterances: Utterances) -> None:
    model = build().double()
    features, lengths = utterances(60, 23)
    with torch.no_grad():
        model.ctc.weight.normal_(generator=torch.Generator().manual_seed(0))
        best = model.ctc_logits(model.encode(features, lengths)).argmax(-1)
    expected = []
    for path, length in zip(best.tolist(), model.output_lengths(lengths).tolist(), strict=True):
        kept = [token for token, _ in itertools.groupby(path[:length])]
        expected.append(tuple(token for token in kept if token not in (BLANK, PAD, EOS)))
    assert [one.ctc for one in recognise(model, features, lengths, attention())] == expected
    assert any(expected)


def test_no_utterances_have_no_hypotheses(model: S2TModel, utterances: Utterances) -> None:
    features, lengths = utterances(20)
    assert beam_search(model, features[:0], lengths[:0], attention()) == []


def test_recognition_flags_utterances_in_which_ctc_hears_nothing(build: Build, utterances: Utterances) -> None:
    features, lengths = utterances(60, 23)
    model = lively(build(), 1)
    found = recognise(model, features, lengths, attention())
    assert all(one.ctc for one in found)
    assert not any(one.no_speech for each in found for one in each.hypotheses)
    with torch.no_grad():
        model.ctc.bias[BLANK] = 1e4
    found = recognise(model, features, lengths, attention())
    assert [one.ctc for one in found] == [(), ()]
    assert all(one.no_speech for each in found for one in each.hypotheses)
    without = recognise(lively(build(ctc=False), 1), features, lengths, attention())
    assert [one.ctc for one in without] == [None, None]
    assert not any(one.no_speech for each in without for one in each.hypotheses)


@given(st.lists(st.integers(3, 4), max_size=20), st.lists(st.integers(3, 5), max_size=18), st.integers(0, 30))
def test_looping_is_an_ngram_over_and_over(start: list[int], ngram: list[int], times: int) -> None:
    tokens = (start + ngram * times)[:90]

    def loops(size: int) -> bool:
        span = max(size * LOOP_TIMES, LOOP_TOKENS)
        windows = (tokens[first : first + span] for first in range(len(tokens) - span + 1))
        return any(window == (window[:size] * span)[:span] for window in windows)

    assert is_looping(tokens) == any(loops(size) for size in range(1, LONGEST_LOOP + 1))


def test_a_decoder_that_says_the_same_over_and_over_is_flagged(build: Build, utterances: Utterances) -> None:
    model = build().double()
    with torch.no_grad():
        model.decoder.layer_norm.weight.zero_()  # so that every step has the same logits: those of token 7
        model.decoder.layer_norm.bias.copy_(model.decoder.embed_tokens.weight[7])
        model.decoder.embed_tokens.weight[7] *= 3
    (best, *_) = beam_search(model, *utterances(60), attention(max_tokens_ratio=0, max_tokens=20))[0]
    assert set(best.tokens) == {7}
    assert best.looping
