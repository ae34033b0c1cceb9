"""The Conformer against transformers' Wav2Vec2Conformer, and what every encoder promises."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xlst_ray.model.conformer import ConformerLayer, distances
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import EOS

Build = Callable[..., S2TModel]
Utterances = Callable[..., tuple[Tensor, Tensor]]
DIM, HEADS, KERNEL = 24, 3, 5
NAMES = {  # ours -> theirs
    "ffn1.layer_norm": "ffn1_layer_norm",
    "ffn1.fc1": "ffn1.intermediate_dense",
    "ffn1.fc2": "ffn1.output_dense",
    "ffn2.layer_norm": "ffn2_layer_norm",
    "ffn2.fc1": "ffn2.intermediate_dense",
    "ffn2.fc2": "ffn2.output_dense",
    "self_attn.q_proj": "self_attn.linear_q",
    "self_attn.k_proj": "self_attn.linear_k",
    "self_attn.v_proj": "self_attn.linear_v",
    "self_attn.out_proj": "self_attn.linear_out",
    "self_attn.pos_proj": "self_attn.linear_pos",
    "self_attn.bias_u": "self_attn.pos_bias_u",
    "self_attn.bias_v": "self_attn.pos_bias_v",
    "conv_module.depthwise_norm": "conv_module.batch_norm.norm",
}


class ChannelNorm(nn.Module):
    """A LayerNorm where theirs has a BatchNorm: over the channels of (B, D, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


@pytest.fixture
def layers() -> tuple[ConformerLayer, nn.Module, nn.Module]:
    """Ours, and theirs with the same weights and its relative positions."""
    from transformers import Wav2Vec2ConformerConfig
    from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as theirs

    torch.manual_seed(2)
    options = ModelOptions(size="debug", encoder="conformer", dim=DIM, heads=HEADS, ffn_dim=20, depthwise_kernel=KERNEL)
    ours = ConformerLayer(options.architecture()).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0, 0.5)
    config = Wav2Vec2ConformerConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        intermediate_size=20,
        hidden_act="silu",
        conv_depthwise_kernel_size=KERNEL,
        position_embeddings_type="relative",
    )
    foreign = theirs.Wav2Vec2ConformerEncoderLayer(config)
    foreign.conv_module.batch_norm = ChannelNorm()
    state = {}
    for name, tensor in ours.state_dict().items():
        prefix = next((prefix for prefix in NAMES if name.startswith(prefix)), None)
        there = name if prefix is None else NAMES[prefix] + name.removeprefix(prefix)
        state[there] = tensor[:, :, None] if "pointwise" in there else tensor
    foreign.load_state_dict(state)
    return ours, foreign.double().eval(), theirs.Wav2Vec2ConformerRelPositionalEmbedding(config)


def test_a_layer_is_that_of_transformers_with_its_relative_positions(
    layers: tuple[ConformerLayer, nn.Module, nn.Module],
) -> None:
    ours, theirs, positions = layers
    x = torch.randn(2, 9, DIM, dtype=torch.float64)
    apart = distances(9, x)
    torch.testing.assert_close(apart, positions(x)[0].double(), atol=1e-6, rtol=0)
    with torch.no_grad():
        found = ours(x, apart, torch.ones(2, 9, dtype=torch.bool))
        expected = theirs(x, relative_position_embeddings=apart[None])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # they take their softmax in float32


@pytest.mark.parametrize("encoder", ["conformer", "transformer"])
def test_an_utterance_has_the_same_states_in_any_batch_whatever_the_padding_holds(
    build: Build, utterances: Utterances, encoder: str
) -> None:
    model = build(encoder=encoder, depthwise_kernel=7).double()
    features, lengths = utterances(64, 33)
    features[1, 33:] = torch.nan
    together, alone = model.encode(features, lengths), model.encode(features[1:, :33], lengths[1:])
    steps = int(alone.lengths[0])
    assert together.lengths.tolist() == [16, steps] == model.output_lengths(lengths).tolist()
    torch.testing.assert_close(together.states[1, :steps], alone.states[0])


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_in_training_every_parameter_of_a_conformer_has_a_gradient(
    build: Build, utterances: Utterances, dropout: float, bf16: bool
) -> None:
    model = build(encoder="conformer", depthwise_kernel=7, dropout=dropout).train()
    features, lengths = utterances(50, 30)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model(features.float(), lengths, torch.tensor([[EOS, 4], [EOS, 5]]))
        again = model(features.float(), lengths, torch.tensor([[EOS, 4], [EOS, 5]])).logits
    assert output.ctc_logits is not None
    (output.logits.square().sum() + output.ctc_logits.square().sum()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert torch.equal(again, output.logits) == (dropout == 0.0)


def test_attention_with_dropout_has_the_mean_of_attention_without(build: Build) -> None:
    """With dropout another path adds the positions' scores."""
    attention = build(encoder="conformer").double().encoder.layers[0].self_attn
    x, real = torch.randn(1, 3, 32, dtype=torch.float64), torch.tensor([[True, True, False]])
    apart = distances(3, x)
    with torch.no_grad():
        expected = attention(x, apart, real)
        attention.train().dropout = 0.25
        draws = attention(x.expand(20_000, -1, -1), apart, real)
    error = draws.std(0) / len(draws) ** 0.5
    assert (draws.std(0) > 0).all()
    assert ((draws.mean(0) - expected[0]).abs() < 5 * error).all()
