"""A small model, utterances for it, and transformers' model with the same weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text

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
def foreign(tmp_path: Path) -> Callable[[S2TModel], torch.nn.Module]:
    """The model as transformers loads it from the folder that we export; fails where a weight is missing or unknown."""
    from transformers import Speech2TextForConditionalGeneration

    def make(model: S2TModel) -> torch.nn.Module:
        save_speech2text(tmp_path, model)
        dtype = model.decoder.embed_tokens.weight.dtype
        theirs, found = Speech2TextForConditionalGeneration.from_pretrained(
            tmp_path, dtype=dtype, output_loading_info=True
        )
        assert not any(found.values()), found
        return theirs.eval()

    return make
