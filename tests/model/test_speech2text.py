"""The layout of transformers' Speech2Text: what it writes we read, what we write it reads (`foreign` in conftest)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlst_ray.errors import DataError
from xlst_ray.model.files import load_model
from xlst_ray.model.loss import label_smoothed_sum
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.text.ids import EOS, PAD

Build = Callable[..., S2TModel]
Utterances = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture
def theirs(tmp_path: Path) -> torch.nn.Module:
    """A model that transformers made and saved in `tmp_path`, three convolutions and all figures unlike one another."""
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    torch.manual_seed(5)
    config = Speech2TextConfig(
        vocab_size=19,
        d_model=24,
        encoder_layers=3,
        decoder_layers=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        num_conv_layers=3,
        conv_kernel_sizes=[5, 5, 5],
        conv_channels=10,
        input_feat_per_channel=7,
        dropout=0.3,
        attention_dropout=0.2,
        activation_dropout=0.4,
    )
    model = Speech2TextForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    return model


def test_a_folder_of_transformers_is_a_model_with_its_logits_and_its_loss(
    theirs: torch.nn.Module, tmp_path: Path
) -> None:
    ours = load_model(tmp_path)
    assert ours.ctc is None
    assert (ours.architecture.dropout, ours.architecture.attention_dropout) == (0.3, 0.2)
    assert ours.architecture.activation_dropout == 0.4
    features, targets = torch.randn(2, 50, 7), torch.tensor([[4, 5, 6, EOS], [18, 3, EOS, PAD]])
    inputs = targets.roll(1, dims=1)
    inputs[:, 0] = EOS
    with torch.no_grad():
        logits = ours(features, torch.tensor([50, 50]), inputs).logits
        expected = theirs(features, decoder_input_ids=inputs, labels=targets.masked_fill(targets == PAD, -100))
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    loss = label_smoothed_sum(logits, targets, 0.0)
    torch.testing.assert_close(loss.loss / loss.tokens, expected.loss, atol=1e-4, rtol=0)


def test_a_model_goes_out_and_comes_back_with_its_ctc_head(build: Build, tmp_path: Path) -> None:
    model = build(dropout=0.3)
    save_speech2text(tmp_path, model)
    again = load_model(tmp_path)
    assert (again.architecture, again.vocabulary_size, again.input_dim) == (
        model.architecture,
        model.vocabulary_size,
        model.input_dim,
    )
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_older_files_hold_the_sinusoids_and_the_projection_twice_in_half_precision_and_pickled(
    build: Build, tmp_path: Path
) -> None:
    model = build(ctc=False)
    save_speech2text(tmp_path, model)
    old = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    old["lm_head.weight"] = old["model.decoder.embed_tokens.weight"].clone()
    old["model.encoder.embed_positions.weights"] = torch.zeros(9, 32)
    (tmp_path / "model.safetensors").unlink()
    torch.save(old, tmp_path / "pytorch_model.bin")
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "whisper"}, "model_type is 'whisper'"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu', not 'relu'"),
        ({"decoder_attention_heads": 2}, r"encoder_attention_heads \(4\) is not decoder_attention_heads \(2\)"),
        ({"conv_kernel_sizes": [3, 5]}, "conv_kernel_sizes are"),
        ({"pad_token_id": 0}, "pad_token_id is 0, not 1"),
        ({"d_model": 64}, r"the weights are not what config\.json describes"),
        ({"encoder_layers": 1}, r"encoder\.layers\.1"),
    ],
)
def test_another_architecture_is_refused(
    build: Build, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    save_speech2text(tmp_path, build())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(DataError, match=message):
        load_model(tmp_path)


def test_a_projection_of_its_own_is_refused(build: Build, tmp_path: Path) -> None:
    save_speech2text(tmp_path, build())
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "lm_head.weight": torch.ones(23, 32)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="is not the embedding"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "ctc.safetensors"])
def test_a_file_cut_in_half_is_refused(build: Build, tmp_path: Path, name: str) -> None:
    save_speech2text(tmp_path, build())
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_model(tmp_path)


def test_a_stride_that_transformers_lacks_is_not_exported(build: Build, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"this model \[2, 3\]"):
        save_speech2text(tmp_path / "out", build(strides=(2, 3)))
    assert not (tmp_path / "out").exists()
