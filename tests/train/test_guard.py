"""A batch that is not finite, and weights that are too large: named, and written down."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from processes import OPTIONS, SILENT, Dealt, build_model
from safetensors.torch import load_file

from xlst_ray.batches.batch import Batch
from xlst_ray.errors import TrainingError
from xlst_ray.train.checkpoint import list_checkpoints
from xlst_ray.train.loop import fit
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World

HERE = World()
PARTS = [[0, 1], [2, 3, 4], [5], [6, 7]]


def failure_of(batches: Sequence[Batch], folder: Path, **changes: object) -> TrainingError:
    options = OPTIONS.replace(updates=8, validate_every=1, accumulate=2, **changes)
    task = SpeechTask(build_model(), Dealt(batches, HERE), options)
    with pytest.raises(TrainingError) as raised:
        fit(task, options, folder, SILENT, seed=1)
    return raised.value


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_batch_is_named_and_written_down(shards: str, tmp_path: Path, bad: float) -> None:
    batches = processes.load(shards, PARTS)
    batches[3].features[1, 5] = bad
    error = failure_of(batches, tmp_path)
    place = tmp_path / "not-finite" / "update-0000002"
    assert error.what == (
        f"the loss of update 2 is not finite in 1 of its batches (what is read is not finite itself: "
        f"{batches[3].ids[1]})"
    )
    assert error.where == str(place)
    told = json.loads((place / "rank-0-batch-1.json").read_text())
    assert told["ids"] == list(batches[3].ids)
    assert told["frames"] == batches[3].frames.tolist()
    assert told["not_finite"] == {"features": [batches[3].ids[1]]}
    assert told["update"] == 2
    assert told["loss"] == "nan"
    assert "decoder.embed_tokens.weight" in told["gradients_not_finite"]
    tensors = load_file(place / "rank-0-batch-1.safetensors")
    assert np.array_equal(tensors["features"].numpy(), batches[3].features, equal_nan=True)
    assert np.array_equal(tensors["targets"].numpy(), batches[3].targets)
    before = load_file(list_checkpoints(tmp_path)[-1] / "model.safetensors")
    weights = load_file(place / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in before.items())
    assert {path.name for path in place.iterdir()} == {
        "rank-0-batch-1.json", "rank-0-batch-1.safetensors", "weights.safetensors"
    }  # fmt: skip


def test_a_learning_rate_that_is_too_high_is_no_fault_of_the_batch(shards: str, tmp_path: Path) -> None:
    batches = processes.load(shards, PARTS)
    error = failure_of(batches, tmp_path, lr=1e30, warmup=0)
    assert error.what.startswith("the loss of update 2 is not finite in 2 of its batches (train-0-5")
    told = json.loads((Path(error.where or "") / "rank-0-batch-0.json").read_text())
    assert told["not_finite"] == {}, "the batch itself is sound"


def test_what_is_written_down_fails_again(shards: str, tmp_path: Path) -> None:
    """With the weights, the batch and the seed of the files alone, dropout included."""
    batches = processes.load(shards, PARTS)
    batches[3].features[1, 5] = np.nan
    failure_of(batches, tmp_path)
    place = tmp_path / "not-finite" / "update-0000002"
    told = json.loads((place / "rank-0-batch-1.json").read_text())
    arrays = {name: value.numpy() for name, value in load_file(place / "rank-0-batch-1.safetensors").items()}
    model = build_model(seed=9)
    model.load_state_dict(load_file(place / "weights.safetensors"), strict=False)
    torch.manual_seed(told["seed"])
    again = Batch(tuple(told["ids"]), **arrays)
    assert SpeechTask(model, Dealt([again], HERE), OPTIONS).loss(model, again).loss.isnan()
