"""Sizes and their overrides."""

import json

import pytest
import torch

from xlst_ray.config import load
from xlst_ray.errors import ConfigError
from xlst_ray.model.options import Architecture, ModelOptions
from xlst_ray.model.s2t import S2TModel


@pytest.mark.parametrize(("size", "millions"), [("s", 30), ("m", 71), ("l", 268)])
def test_sizes_have_the_parameters_that_fairseq_publishes(size: str, millions: int) -> None:
    """fairseq's LibriSpeech recipe: a unigram vocabulary of 10k, embedding and output tied, no CTC head."""
    with torch.device("meta"):
        model = S2TModel(load(ModelOptions, None, [f"size={size}", "ctc=false"]).architecture(), 10_000)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_a_deep_encoder_with_a_shallow_decoder_is_as_large_as_its_size() -> None:
    def parameters(size: str) -> int:
        return sum(
            p.numel() for p in S2TModel(load(ModelOptions, None, [f"size={size}"]).architecture(), 1000).parameters()
        )

    with torch.device("meta"):
        assert parameters("s-deep") == pytest.approx(parameters("s"), rel=0.01)


def test_a_conformer_of_size_s_has_the_parameters_that_fairseq_publishes() -> None:
    """42.9M for `s2t_conformer` with relative positions on CoVoST, whose vocabulary is some hundred characters."""
    with torch.device("meta"):
        model = S2TModel(ModelOptions(encoder="conformer", ctc=False).architecture(), 200)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == 42.9


def test_overrides_change_one_figure_and_other_dropouts_follow_the_dropout() -> None:
    built = ModelOptions(size="m", dropout=0.25, encoder_layers=3, activation_dropout=0.0).architecture()
    assert (built.dim, built.encoder_layers, built.decoder_layers) == (512, 3, 6)
    assert (built.dropout, built.attention_dropout, built.activation_dropout) == (0.25, 0.25, 0.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dim=250", "multiple of the heads"),
        ("heads=3", "multiple of the heads"),
        ("conv_channels=33", "even"),
        ("strides=[2, 0]", "1 or more"),
        ("strides=[]", "strides"),
        ("depthwise_kernel=4", "must be odd"),
        ("dropout=1.0", "dropout"),
        ("dim=0", "dim"),
    ],
)
def test_contradictions_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ModelOptions, None, [override])


def test_an_odd_dimension_is_refused_for_its_sines_and_cosines() -> None:
    with pytest.raises(ConfigError, match="even"):
        load(ModelOptions, None, ["dim=45", "heads=3"])


def test_an_architecture_survives_json() -> None:
    built = ModelOptions(size="debug", strides=(2, 3), ctc=False).architecture()
    assert Architecture.from_json(json.loads(json.dumps(built.to_json()))) == built


def test_an_architecture_with_another_key_is_refused() -> None:
    values = ModelOptions(size="debug").architecture().to_json()
    with pytest.raises(ConfigError, match="depth"):
        Architecture.from_json({**values, "depth": 3})
    with pytest.raises(ConfigError, match="strides"):
        Architecture.from_json({key: value for key, value in values.items() if key != "strides"})
