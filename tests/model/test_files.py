"""A model written and read again, and folders that are no model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from xlst_ray.errors import DataError
from xlst_ray.model.files import load_model, save_model
from xlst_ray.model.s2t import S2TModel


def test_a_model_comes_back_as_it_was(tmp_path: Path, build: Callable[..., S2TModel]) -> None:
    model = build(strides=(2, 3), ctc=False, dropout=0.3)
    save_model(tmp_path / "new" / "folder", model)
    again = load_model(tmp_path / "new" / "folder")
    assert (again.architecture, again.vocabulary_size, again.input_dim) == (
        model.architecture,
        model.vocabulary_size,
        model.input_dim,
    )
    assert not again.training
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, model: S2TModel, name: str) -> None:
    save_model(tmp_path, model)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing") as raised:
        load_model(tmp_path)
    assert raised.value.where == str(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_file_cut_in_half_is_refused(tmp_path: Path, model: S2TModel, name: str) -> None:
    save_model(tmp_path, model)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cannot be read as a model[\s\S]*\n  -> "):
        load_model(tmp_path)


def test_weights_of_another_description_are_refused(tmp_path: Path, model: S2TModel) -> None:
    save_model(tmp_path, model)
    description = json.loads((tmp_path / "model.json").read_text())
    description["vocabulary_size"] += 1
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"decoder\.embed_tokens\.weight"):
        load_model(tmp_path)
