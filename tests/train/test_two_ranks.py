"""Real torch.distributed: two processes over gloo do what one does with the same batches."""

from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from xlst_ray.train.step import World

PARTS = [[0, 1, 2], [3], [4, 5], [6, 7]]
Result = list[Any]


@pytest.fixture(scope="module")
def ranks(shards: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    """What both ranks have of each scenario, in one start of the processes."""
    folder = tmp_path_factory.mktemp("ranks")
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    scenarios = [
        (processes.update_of, (shards, halves)),
        (processes.update_of, (shards, PARTS)),
        (processes.fit_dealt, (shards, PARTS, folder, 1)),
        (processes.refuses_a_number_that_is_none, (shards, halves)),
        (processes.says_which_batch_it_was, (shards, PARTS, folder / "bad")),
        *((processes.fit_dealt, (shards, PARTS, folder / f"dropout-{number}", number, 0.3)) for number in (1, 2)),
    ]
    mp.spawn(processes.rank_main, (2, folder, scenarios), nprocs=2)
    one, other = (torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    return folder, one, other


@pytest.fixture(scope="module")
def alone(shards: str) -> Any:
    return processes.update_of(World(), shards, [list(range(8))])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_is_that_of_one_process(ranks: tuple[Path, Result, Result], alone: Any, accumulate: int) -> None:
    gradients, logs = alone
    for rank in ranks[1:]:
        its_gradients, its_logs = rank[accumulate - 1]
        assert its_gradients.keys() == gradients.keys()
        for name, value in gradients.items():
            torch.testing.assert_close(its_gradients[name], value, rtol=1e-4, atol=2e-6)
        assert its_logs == pytest.approx(logs, rel=1e-4)


def test_a_training_is_that_of_one_process(ranks: tuple[Path, Result, Result], shards: str, tmp_path: Path) -> None:
    """Over a change of what is frozen, and with a development set of which one rank has nothing."""
    folder, one, other = ranks
    expected = processes.fit_dealt(World(), shards, PARTS, tmp_path, 2)
    for rank in (one[2], other[2]):
        assert len(rank["validations"]) == len(expected["validations"]) == 2
        for scores, its_scores in zip(expected["validations"], rank["validations"], strict=True):
            assert its_scores == pytest.approx(scores, rel=1e-3)
    for name, value in one[2]["weights"].items():
        assert torch.equal(value, other[2]["weights"][name]), f"{name} has drifted apart"
    start = dict(processes.build_model().named_parameters())
    for name, value in load_file(folder / "update-0000002" / "model.safetensors").items():
        assert torch.equal(value, start[name]) == name.startswith("encoder."), f"{name} after the frozen updates"
    for name, value in load_file(folder / "update-0000004" / "model.safetensors").items():
        assert not torch.equal(value, start[name]), f"{name} after all updates"


def test_a_process_alone_does_the_work_of_two_ranks(
    ranks: tuple[Path, Result, Result], shards: str, tmp_path: Path
) -> None:
    """As where the other one was lost: the same updates, and so the same model."""
    _, one, _ = ranks
    alone = processes.fit_dealt(World(ranks=2), shards, PARTS, tmp_path, 1)
    for scores, its_scores in zip(one[2]["validations"], alone["validations"], strict=True):
        assert its_scores == pytest.approx(scores, rel=1e-3)
    for name, value in one[2]["weights"].items():
        torch.testing.assert_close(alone["weights"][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_dropout_draws_by_rank_of_the_plan(
    ranks: tuple[Path, Result, Result], shards: str, tmp_path: Path, accumulate: int
) -> None:
    """One process makes the updates of two, up to the order of sums, which Adam magnifies for gradients near 0."""
    expected = ranks[1][4 + accumulate]
    alone = processes.fit_dealt(World(ranks=2), shards, PARTS, tmp_path, accumulate, 0.3)
    for scores, its_scores in zip(expected["validations"], alone["validations"], strict=True):
        assert its_scores == pytest.approx(scores, rel=1e-4)
    for name, value in expected["weights"].items():
        torch.testing.assert_close(alone["weights"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_ranks_of_a_plan_are_shared_out_among_the_processes(size: int) -> None:
    shares = [World(rank, size, ranks=4).shares for rank in range(size)]
    assert sorted(rank for share in shares for rank in share) == [0, 1, 2, 3]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert World(1, 3).shares == range(1, 3, 3)


def test_all_ranks_hear_of_a_loss_that_is_no_number(ranks: tuple[Path, Result, Result]) -> None:
    assert [rank[3] for rank in ranks[1:]] == [True, True]


def test_both_ranks_say_which_batch_of_which_rank_was_not_finite(ranks: tuple[Path, Result, Result]) -> None:
    folder, one, other = ranks
    assert one[4] == other[4]
    place = folder / "bad" / "not-finite" / "update-0000002"
    assert one[4]["where"] == str(place)
    names = ", ".join(f"train-0-{row}" for row in PARTS[3])
    assert one[4]["what"] == (
        f"the loss of update 2 is not finite in 1 of its batches (what is read is not finite itself: {names})"
    )
    assert {path.name for path in place.iterdir()} == {
        "rank-1-batch-0.json", "rank-1-batch-0.safetensors", "weights.safetensors"
    }  # fmt: skip
