"""Recomputed activations: the same gradient, less memory."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))
from encoders import write_encoder

from xlst_ray.model.beam import BeamOptions, beam_search
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.pretrained import load_pretrained
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.wrapped import recompute_layers

MODEL = ModelOptions(size="debug", encoder_layers=3, dropout=0.2)
FEATURES, LENGTHS = torch.randn(2, 120, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([120, 90])
TOKENS = torch.tensor([[2, 5, 6, 7], [2, 7, 8, 1]])


def gradients(model: S2TModel, features: torch.Tensor) -> tuple[dict[str, torch.Tensor], int]:
    """Of a loss on some batch, and the bytes that are kept for the backward pass."""
    kept = 0

    def keep(value: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += value.nbytes
        return value

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = model.train()(features, LENGTHS, TOKENS)
    (output.logits.square().mean() + output.ctc_logits.square().mean()).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}, kept


@pytest.mark.parametrize("kind", ["transformer", "conformer", "whisper", "xls-r", "w2v-bert"])
def test_the_gradient_is_the_same_and_less_is_kept(kind: str, tmp_path: Path) -> None:
    pretrained = None
    if kind in ("transformer", "conformer"):
        options = MODEL.replace(encoder=kind, depthwise_kernel=7)
    else:
        options, pretrained = MODEL.replace(strides=(2,)), load_pretrained(write_encoder(tmp_path, kind))
    torch.manual_seed(1)
    model = S2TModel(options.architecture(), 12, pretrained=pretrained)
    features = torch.randn(2, 120, model.input_dim, generator=torch.Generator().manual_seed(1))
    before, much = gradients(model, features)
    model.zero_grad(set_to_none=True)
    names = list(model.state_dict())
    recompute_layers(model)
    after, little = gradients(model, features)
    assert little < 0.8 * much
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert list(model.state_dict()) == names


def test_recognition_stays_what_it_is() -> None:
    torch.manual_seed(1)
    model = S2TModel(MODEL.architecture(), 12)
    before = beam_search(model, FEATURES, LENGTHS, BeamOptions(beam=3, max_tokens=6, max_tokens_ratio=0))
    recompute_layers(model)
    assert beam_search(model, FEATURES, LENGTHS, BeamOptions(beam=3, max_tokens=6, max_tokens_ratio=0)) == before
