import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from xlst_ray.batches.position import Position
from xlst_ray.errors import TrainingError
from xlst_ray.train.average import RunningAverage
from xlst_ray.train.checkpoint import (
    Learner,
    TrainState,
    average_weights,
    best_updates,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    prune_checkpoints,
    read_state,
    save_checkpoint,
    weights,
)

FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


class Tied(nn.Module):
    """Two names for one tensor, as a decoder's embedding has."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.project = nn.Embedding(4, 3), nn.Linear(3, 4)
        self.project.weight = self.embed.weight


def stepped(seed: int) -> tuple[Tied, torch.optim.Optimizer]:
    """A model and an optimiser after an update of some of its parameters."""
    model = Tied(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model.embed.weight.square().sum().backward()
    optimizer.step()
    return model, optimizer


def assert_whole(path: Path) -> None:
    model, optimizer = stepped(seed=99)
    assert load_checkpoint(path, Learner(model, optimizer)).update == int(path.name.removeprefix("update-"))


def test_a_checkpoint_brings_back_weights_optimiser_and_place(tmp_path: Path) -> None:
    model, optimizer = stepped(seed=1)
    state = TrainState(7, Position(2, 3), 12.5, ({"update": 7.0, "loss": 0.1 + 0.2},))
    path = save_checkpoint(tmp_path / "new", Learner(model, optimizer), state)
    other, its_optimizer = stepped(seed=2)
    assert load_checkpoint(path, Learner(other, its_optimizer)) == state
    for (name, mine), (_, its) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0, msg=name)
    assert other.project.weight is other.embed.weight
    assert str(optimizer.state_dict()) == str(its_optimizer.state_dict())
    for trained in (model, other):
        trained.embed.weight.grad = torch.ones(4, 3)
    optimizer.step()
    its_optimizer.step()
    assert torch.equal(model.embed.weight, other.embed.weight)


def test_a_place_that_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    """It had the ranks of the plan as a fourth number."""
    state = TrainState(7, Position(2, 6, 1))
    path = save_checkpoint(tmp_path / "new", Learner(*stepped(seed=1)), state)
    values = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**values, "position": [*values["position"], 4]}))
    assert read_state(path) == state


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    model, optimizer = stepped(seed=1)
    path = save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(1))
    with pytest.raises(TrainingError, match=r"another model \(0.weight, embed.weight, project.bias"):
        load_checkpoint(path, Learner(nn.Sequential(nn.Linear(3, 4, bias=False)), optimizer))
    with pytest.raises(TrainingError, match=r"another model \(project.bias \.\.\. differ"):
        load_weights(model, {**weights(model), "project.bias": torch.zeros(1)})


def killed(event: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that is killed -9 before its `event`-th file operation; whether it came to that."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(name: str, _: object) -> None:
            nonlocal seen
            if name in FILE_EVENTS:
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_checkpoint_is_whole_or_absent_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    model, optimizer = stepped(seed=1)
    save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(1))
    event = 1
    while killed(event, lambda: save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(2))):
        for path in list_checkpoints(tmp_path):
            assert_whole(path)
        assert list_checkpoints(tmp_path)[0].name == "update-0000001"
        event += 1
    assert event > 5
    assert [path.name for path in list_checkpoints(tmp_path)] == ["update-0000001", "update-0000002"]
    while killed(
        event, lambda: save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(2))
    ):  # over one that is there
        event += 1
    assert_whole(save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(2)))


def test_a_removed_checkpoint_is_whole_or_absent_wherever_its_remover_is_killed(tmp_path: Path) -> None:
    model, optimizer = stepped(seed=1)
    event, alive = 1, True
    while alive:
        paths = [save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(update)) for update in (1, 2, 3)]
        alive = killed(event, partial(prune_checkpoints, tmp_path, paths[1:]))
        for path in list_checkpoints(tmp_path):
            assert_whole(path)
        assert set(paths[1:]) <= set(list_checkpoints(tmp_path))
        event += 1
    assert event > 5
    assert list_checkpoints(tmp_path) == paths[1:]


def test_checkpoints_are_listed_in_the_order_of_updates(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "none") == []
    model, optimizer = stepped(seed=1)
    for update in (1000, 9, 20_000, 100):
        save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(update))
    updates = [json.loads((path / "state.json").read_text())["update"] for path in list_checkpoints(tmp_path)]
    assert updates == [9, 100, 1000, 20_000]


def test_the_average_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    paths = []
    for update in range(1, 4):
        model, optimizer = stepped(seed=update)
        paths.append(save_checkpoint(tmp_path, Learner(model, optimizer), TrainState(update)))
    average = average_weights(paths)
    files = [load_file(path / "model.safetensors") for path in paths]
    assert average.keys() == weights(Tied(0)).keys() == {"embed.weight", "project.bias"}
    for name, value in average.items():
        expected = torch.stack([file[name] for file in files]).double().mean(0).float()
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
        assert value.dtype == torch.float32
    torch.testing.assert_close(average_weights(paths[:1]), files[0], rtol=0, atol=0)


scores = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(scores, st.integers(1, 6), st.sampled_from(["last", "accuracy", "loss"]))
def test_the_best_updates_are_the_best(scores: list[tuple[int, int]], count: int, by: str) -> None:
    """Against the definition: none that is left out is better than, or as good as and later than, one that is in."""
    entries = [
        {"update": 10.0 * number, "accuracy": float(accuracy), "loss": float(loss)}
        for number, (accuracy, loss) in enumerate(scores, 1)
    ]
    chosen = best_updates(entries, count, by)
    assert len(chosen) == min(count, len(entries))
    assert chosen == sorted(set(chosen))
    worth = {
        "last": lambda entry: entry["update"],
        "accuracy": lambda entry: (entry["accuracy"], entry["update"]),
        "loss": lambda entry: (-entry["loss"], entry["update"]),
    }[by]
    rank = {entry["update"]: worth(entry) for entry in entries}
    others = rank.keys() - set(chosen)
    assert all(rank[other] < rank[one] for other in others for one in chosen)


@pytest.mark.parametrize("room", [1, 9, 17, 25])
def test_a_full_disk_is_said_and_the_checkpoint_before_stays(room: int, small_disk: Path) -> None:
    """Whatever is being written when it is full: weights are 8 units, moments 16, the average 8."""
    unit = 32 * 1024
    model = nn.Linear(unit * 8 // 4, 1, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model.weight.square().sum().backward()
    optimizer.step()
    learner = Learner(model, optimizer, average=RunningAverage(model, 0.5))
    save_checkpoint(small_disk, learner, TrainState(3))
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - room * unit))
    with pytest.raises(TrainingError, match="no space is left for a checkpoint") as raised:
        save_checkpoint(small_disk, learner, TrainState(6))
    assert raised.value.where == str(small_disk)
    assert shutil.disk_usage(small_disk).free >= room * unit, "what was begun is gone"
    filler.unlink()
    assert list_checkpoints(small_disk) == [small_disk / "update-0000003"]
    assert load_checkpoint(small_disk / "update-0000003", learner).update == 3
