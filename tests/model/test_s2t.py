"""The model against transformers' Speech2Text with the same weights, and against itself step by step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xlst_ray.errors import ConfigError
from xlst_ray.model.encoders import Encoded
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import EOS, PAD, UNK

Build = Callable[..., S2TModel]
Utterances = Callable[..., tuple[Tensor, Tensor]]
Foreign = Callable[[S2TModel], nn.Module]


def test_a_padded_batch_has_the_logits_that_transformers_has_for_each_utterance_alone(
    model: S2TModel, utterances: Utterances, foreign: Foreign
) -> None:
    theirs = foreign(model)
    features, lengths = utterances(61, 40, 7)
    tokens = torch.tensor([[EOS, 5, 6, 7, 22], [EOS, 9, UNK, 9, 9], [EOS, 4, PAD, PAD, PAD]])
    logits = model(features, lengths, tokens).logits
    for row, length in enumerate(lengths.tolist()):
        real = int((tokens[row] != PAD).sum())
        expected = theirs(features[row : row + 1, :length], decoder_input_ids=tokens[row : row + 1, :real]).logits
        torch.testing.assert_close(logits[row, :real], expected[0], atol=1e-6, rtol=0)


def test_a_batch_without_padding_has_the_logits_of_transformers(
    model: S2TModel, utterances: Utterances, foreign: Foreign
) -> None:
    features, lengths = utterances(50, 50, 50)
    tokens = torch.randint(4, model.vocabulary_size, (3, 9))
    expected = foreign(model)(features, decoder_input_ids=tokens).logits
    torch.testing.assert_close(model(features, lengths, tokens).logits, expected, atol=1e-6, rtol=0)


def test_an_utterance_gives_the_same_in_any_batch_whatever_the_padding_holds(
    model: S2TModel, utterances: Utterances
) -> None:
    features, lengths = utterances(64, 33)
    features[1, 33:] = torch.nan
    together, alone = model.encode(features, lengths), model.encode(features[1:, :33], lengths[1:])
    steps = int(alone.lengths[0])
    assert together.lengths.tolist() == [16, steps]
    torch.testing.assert_close(together.states[1, :steps], alone.states[0])
    tokens = torch.tensor([[EOS, 4, 5]])
    torch.testing.assert_close(model.decode(tokens.expand(2, -1), together)[1:], model.decode(tokens, alone))


@pytest.mark.parametrize("strides", [(2, 2), (2, 2, 2), (1, 3), (4,)])
def test_output_lengths_are_the_steps_that_come_out(build: Build, strides: tuple[int, ...]) -> None:
    model = build(strides=strides)
    for frames in range(1, 40):
        lengths = torch.tensor([frames])
        encoded = model.encode(torch.zeros(1, frames, model.input_dim), lengths)
        assert encoded.states.shape[1] == int(encoded.lengths) == int(model.output_lengths(lengths))


def test_cached_steps_have_the_teacher_forced_logits_also_when_hypotheses_change_places(
    model: S2TModel, utterances: Utterances
) -> None:
    beams, count = 3, 40  # more steps than the cache has room for at first
    encoded = model.encode(*utterances(30, 21))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        cache = model.decoder.start(encoded, beams)
        tokens = torch.full((2, beams, 1), EOS)
        for step in range(count):
            logits = model.decoder.step(tokens[:, :, -1], cache)
            repeated = Encoded(*(part.repeat_interleave(beams, dim=0) for part in encoded))
            expected = model.decode(tokens.flatten(0, 1), repeated)[:, -1]
            torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-9, rtol=0)
            parents = torch.randint(0, beams, tokens.shape[:2], generator=generator)
            new = torch.randint(4, model.vocabulary_size, tokens.shape[:2], generator=generator)
            tokens = torch.cat([tokens.gather(1, parents[:, :, None].expand_as(tokens)), new[:, :, None]], dim=2)
            cache.reorder(parents)
            if step == count // 2:
                stay = torch.tensor([1])
                cache.select(stay)
                tokens, encoded = tokens[stay], Encoded(*(part[stay] for part in encoded))


def test_a_decoder_sees_no_later_token(model: S2TModel, utterances: Utterances) -> None:
    encoded = model.encode(*utterances(30))
    one, other = torch.tensor([[EOS, 4, 5, 6]]), torch.tensor([[EOS, 4, 5, 9]])
    torch.testing.assert_close(model.decode(one, encoded)[:, :3], model.decode(other, encoded)[:, :3])


@pytest.mark.parametrize("kind", ["dropout", "attention_dropout", "activation_dropout"])
def test_in_training_every_parameter_has_a_gradient_and_each_dropout_acts(
    build: Build, utterances: Utterances, kind: str
) -> None:
    none = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    model = build(**{**none, kind: 0.2}).train()
    features, lengths = utterances(30, 17)
    tokens = torch.tensor([[EOS, 4, 5], [EOS, 6, PAD]])
    output = model(features.float(), lengths, tokens)
    assert output.ctc_logits is not None
    (output.logits.square().sum() + output.ctc_logits.square().sum()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not torch.equal(model(features.float(), lengths, tokens).logits, output.logits)


def test_attention_with_cheap_dropout_has_the_mean_of_attention_without(model: S2TModel) -> None:
    attention = model.encoder.layers[0].self_attn
    x, mask = torch.randn(1, 3, 32, dtype=torch.float64), torch.tensor([True, True, False])[None, None, None]
    with torch.no_grad():
        expected = attention(x, attention.keys_values(x), mask)
        attention.train().dropout = 0.25
        many, draws = x.expand(40_000, -1, -1), torch.zeros(0)
        draws = attention(many, attention.keys_values(many), mask)
    error = draws.std(0) / len(draws) ** 0.5
    assert (draws.std(0) > 0).all()
    assert ((draws.mean(0) - expected[0]).abs() < 5 * error).all()


def test_without_a_ctc_head_its_logits_are_refused(build: Build, utterances: Utterances) -> None:
    model = build(ctc=False).double()
    features, lengths = utterances(20)
    assert model(features, lengths, torch.tensor([[EOS]])).ctc_logits is None
    with pytest.raises(ConfigError, match=r"model\.ctc=true"):
        model.ctc_logits(model.encode(features, lengths))
