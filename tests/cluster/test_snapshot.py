"""The list of a training's checkpoints, cut off where Ray wrote it: it becomes what it was before."""

import json
import math
from pathlib import Path

import pytest

from xlst_ray.cluster.snapshot import LIST, copy_list, mend_list, remove_unlisted
from xlst_ray.cluster.train import _finite


@pytest.mark.parametrize("left", [0, 1, 20])
def test_a_list_that_is_cut_off_becomes_what_it_was_before(tmp_path: Path, left: int) -> None:
    url, first, second = tmp_path / LIST, json.dumps({"checkpoints": ["a"]}), json.dumps({"checkpoints": ["a", "b"]})
    url.write_text(first)
    copy_list(str(tmp_path))
    url.write_text(second)
    mend_list(str(tmp_path))
    assert url.read_text() == second, "a whole one stays"
    url.write_text(second[:left])
    mend_list(str(tmp_path))
    assert url.read_text() == first


def test_without_a_checkpoint_before_training_begins_anew(tmp_path: Path) -> None:
    mend_list(str(tmp_path))
    assert not list(tmp_path.iterdir())
    (tmp_path / LIST).write_text("{")
    mend_list(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_of_a_checkpoint_goes(tmp_path: Path) -> None:
    for name in ("update-0000002/model.safetensors", "update-0000004/shards/shard-00003.safetensors", "events/kept"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / LIST).write_text(json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "update-0000002"}]}))
    remove_unlisted(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {LIST, "update-0000002", "events"}
    (tmp_path / LIST).unlink()
    remove_unlisted(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"events"}


def test_what_ray_keeps_of_an_infinite_loss_can_be_compared() -> None:
    """Its list is JSON, which would make null of it: no resume could rank that checkpoint."""
    kept = _finite({"loss": math.inf, "accuracy": 0.5})
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["accuracy"] == 0.5 < 1e300 < kept["loss"]
