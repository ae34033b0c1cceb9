"""A small model, utterances for it, and transformers' model with the same weights."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BOS, EOS, PAD

VOCABULARY, MELS = 23, 12
MODEL = ModelOptions(size="debug", dim=32, ffn_dim=48, heads=4, encoder_layers=2, decoder_layers=2, conv_channels=40)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower on two, and much slower beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def build() -> Callable[..., S2TModel]:
    """`build(dim=16, ...)`: a model of the small figures, some of them changed."""

    def make(vocabulary: int = VOCABULARY, seed: int = 1, **changes: object) -> S2TModel:
        torch.manual_seed(seed)
        return S2TModel(MODEL.replace(**changes).architecture(), vocabulary, MELS).eval()

    return make


@pytest.fixture
def model(build: Callable[..., S2TModel]) -> S2TModel:
    return build().double()


@pytest.fixture
def utterances() -> Callable[..., tuple[Tensor, Tensor]]:
    """`utterances(61, 40)`: random features (B, T, F) and these lengths."""

    def make(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(len(lengths), max(lengths), MELS, generator=generator, dtype=torch.float64)
        return features, torch.tensor(lengths)

    return make


@pytest.fixture
def foreign() -> Callable[[S2TModel], torch.nn.Module]:
    """transformers' model of the same figures and weights; fails where one has a parameter more than the other."""
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    def make(model: S2TModel) -> torch.nn.Module:
        figures = model.architecture
        config = Speech2TextConfig(
            vocab_size=model.vocabulary_size,
            d_model=figures.dim,
            encoder_layers=figures.encoder_layers,
            decoder_layers=figures.decoder_layers,
            encoder_ffn_dim=figures.ffn_dim,
            decoder_ffn_dim=figures.ffn_dim,
            encoder_attention_heads=figures.heads,
            decoder_attention_heads=figures.heads,
            conv_channels=figures.conv_channels,
            conv_kernel_sizes=[5, 5],
            input_feat_per_channel=model.input_dim,
            bos_token_id=BOS,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=EOS,
        )
        theirs = Speech2TextForConditionalGeneration(config).to(model.decoder.embed_tokens.weight.dtype)
        ours = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if not name.startswith("ctc.")}
        missing, unexpected = theirs.load_state_dict(ours, strict=False)
        assert (missing, unexpected) == (["lm_head.weight"], [])  # tied there
        theirs.tie_weights()
        return theirs.eval()

    return make
