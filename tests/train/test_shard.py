"""A model shared out among two processes over gloo: the training of one that each has all of, and its checkpoints."""

from functools import partial
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from xlst_ray.errors import TrainingError
from xlst_ray.train.checkpoint import average_weights, list_checkpoints
from xlst_ray.train.loop import fit
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World

PARTS = [[0, 1, 2], [3], [4, 5], [6, 7]]
Result = list[Any]


@pytest.fixture(scope="module")
def ranks(shards: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    """What both ranks have of each scenario, in one start of the processes."""
    folder = tmp_path_factory.mktemp("shared")
    shared_out = partial(processes.fit_shared_out, parallel="fsdp")
    scenarios = [
        (processes.fit_shared_out, (shards, PARTS, folder / "ddp")),
        (shared_out, (shards, PARTS, folder / "fsdp")),
        (shared_out, (shards, PARTS, folder / "cut", 2)),
        (shared_out, (shards, PARTS, folder / "cut")),
        (shared_out, (shards, PARTS, folder / "shrunk", 2)),
        (partial(shared_out, recompute=True), (shards, PARTS, folder / "again")),
        (partial(processes.says_which_batch_it_was, parallel="fsdp"), (shards, PARTS, folder / "bad")),
    ]
    mp.spawn(processes.rank_main, (2, folder, scenarios), nprocs=2)
    one, other = (torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    return folder, one, other


def assert_alike(one: dict[str, Any], other: dict[str, Any], rtol: float = 1e-3, atol: float = 1e-5) -> None:
    assert one["weights"].keys() == other["weights"].keys()
    for name, value in one["weights"].items():
        torch.testing.assert_close(
            value, other["weights"][name], rtol=rtol, atol=atol, msg=lambda t, n=name: f"{n}: {t}"
        )
    assert len(one["validations"]) == len(other["validations"])
    for scores, its_scores in zip(one["validations"], other["validations"], strict=True):
        assert its_scores == pytest.approx(scores, rel=max(rtol, 1e-9))


@pytest.mark.parametrize("scenario", [1, 5])
def test_it_trains_as_if_each_had_all_of_it(ranks: tuple[Path, Result, Result], scenario: int) -> None:
    """Losses, running average and weights, over a change of what is frozen; also where layers are computed again."""
    _, one, other = ranks
    assert_alike(one[0], one[scenario])
    assert_alike(one[scenario], other[scenario], rtol=0, atol=0)
    start = dict(processes.build_model().named_parameters())
    still = {name for name, value in one[scenario]["weights"].items() if torch.equal(value, start[name])}
    assert still == {"encoder.layers.0.fc1.bias"}


def test_a_resume_goes_on_alike(ranks: tuple[Path, Result, Result]) -> None:
    _, one, _ = ranks
    assert_alike(one[1], one[3], rtol=0, atol=0)


def test_one_process_goes_on_with_what_two_left(ranks: tuple[Path, Result, Result], shards: str) -> None:
    folder, one, _ = ranks
    alone = processes.fit_shared_out(World(), shards, PARTS, folder / "shrunk", parallel="fsdp")
    assert_alike(one[1], alone)


def test_what_is_exported_is_the_running_average_as_of_any_other(ranks: tuple[Path, Result, Result]) -> None:
    folder, _, _ = ranks
    paths = list_checkpoints(folder / "fsdp")
    assert [path.name for path in paths] == ["update-0000002", "update-0000004"]
    assert not list(folder.glob("fsdp/.*")), "nothing half-written is left"
    expected = [load_file(path / "average.safetensors") for path in list_checkpoints(folder / "ddp")]
    for name, value in average_weights(paths).items():
        mean = (expected[0][name] + expected[1][name]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-3, atol=1e-5)


def test_a_batch_that_is_not_finite_is_told_apart_from_the_other_rank_s(ranks: tuple[Path, Result, Result]) -> None:
    folder, one, other = ranks
    assert one[6] == other[6]
    assert "not finite in 1 of its batches" in one[6]["what"]
    place = folder / "bad" / "not-finite" / "update-0000002"
    assert {path.name for path in place.iterdir()} == {
        "rank-1-batch-0.json", "rank-1-batch-0.safetensors", "weights.safetensors"
    }  # fmt: skip
    before = average_weights([list_checkpoints(folder / "ddp")[0]]).keys()
    assert load_file(place / "weights.safetensors").keys() == before


def test_ranks_that_do_not_come_out_even_are_refused(tmp_path: Path) -> None:
    options = processes.OPTIONS.replace(parallel="fsdp")
    task = SpeechTask(processes.build_model(), processes.Dealt([], World()), options)
    with pytest.raises(TrainingError, match="4 ranks do not come out even on 3 processes"):
        fit(task, options, tmp_path, processes.SILENT, seed=0, world=World(0, 3, ranks=4))
    with pytest.raises(ValueError, match="not for precision fp16"):
        TrainOptions(parallel="fsdp", precision="fp16")
