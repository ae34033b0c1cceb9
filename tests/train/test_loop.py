import math
import multiprocessing
import random
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import processes
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from xlst_ray.batches.position import Position
from xlst_ray.errors import ConfigError, Stopped, TrainingError
from xlst_ray.train.checkpoint import Learner, TrainState, best_updates, list_checkpoints, load_checkpoint, read_state
from xlst_ray.train.loop import Observer, Wish, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.schedule import inverse_sqrt
from xlst_ray.train.task import Extent, LossSum

QUIET = Observer(lambda progress: None, lambda path, state: None)


class Line(nn.Module):
    """y = ax + b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x + self.b


class Points:
    """A task of five batches an epoch; what validation finds is given beforehand, batch positions are noted."""

    def __init__(self, dev: list[dict[str, float]] | None = None, freeze: dict[str, int] | None = None) -> None:
        self.model: nn.Module = Line()
        self.dev, self.freeze = iter(dev or []), freeze or {}
        self.taken: list[Position] = []

    def batches(self, start: Position) -> Generator[tuple[Tensor, Position], None, None]:
        first = start.batch
        for epoch in count(start.epoch):
            for number in range(first, 5):
                self.taken.append(Position(epoch, number))
                yield torch.tensor([epoch + 1.0, number]), Position(epoch, number + 1)
            first = 0

    def dev_batches(self) -> Iterator[dict[str, float]]:
        yield next(self.dev, {"loss": 1.0})

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def extent(self, batch: Tensor) -> Extent:
        return Extent(len(batch), len(batch))

    def loss(self, model: nn.Module, batch: Tensor | dict[str, float]) -> LossSum:
        if isinstance(batch, dict):
            logs = {name: torch.tensor(value) for name, value in batch.items() if name != "loss"}
            return LossSum(torch.tensor(batch["loss"]), 1, logs)
        return LossSum((model(batch) - 1).square().sum(), 2)

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset(name for name, first in self.freeze.items() if update < first)


def options(**changes: object) -> TrainOptions:
    return TrainOptions.model_validate({"updates": 12, "warmup": 0, "lr": 0.1, "validate_every": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "dev", "last"),
    [
        ({"patience": 2}, [{"loss": x} for x in (3, 2, 2.5, 2.5, 1)], 4),
        ({"patience": 2}, [{"loss": x} for x in (3, 2, 2.5, 1, 1.5, 1.5)], 6),
        ({"patience": 1}, [{"loss": x} for x in (3, 2, 1, 1)], 4),
        ({"patience": 2, "average_by": "loss"}, [{"loss": 2.0}] * 12, 3),
        (
            {"patience": 2, "average_by": "accuracy"},
            [{"loss": 9 - x, "accuracy": a} for x, a in enumerate((0.1, 0.5, 0.5, 0.5, 0.9))],
            4,
        ),
        ({"patience": None}, [{"loss": float(x)} for x in range(12)], 12),
        ({"patience": 20}, [{"loss": float(x)} for x in range(12)], 12),
    ],
)
def test_training_stops_after_validations_without_a_better_one(
    tmp_path: Path, changes: dict[str, object], dev: list[dict[str, float]], last: int
) -> None:
    task = Points(dev)
    state = fit(task, options(**changes), tmp_path, QUIET, seed=0)
    assert state.update == last
    assert [entry["loss"] for entry in state.validations] == [entry["loss"] for entry in dev[:last]]
    resumed = Points()
    again = fit(resumed, options(**changes), tmp_path, QUIET, seed=0, resume=list_checkpoints(tmp_path)[-1])
    assert (again, resumed.taken) == (state, []), "a training that ended has nothing left to do"
    assert torch.equal(resumed.model.a, task.model.a), "and brings its weights"


def test_weights_whose_development_loss_is_no_number_are_never_the_best(tmp_path: Path) -> None:
    dev = [{"loss": loss} for loss in (math.nan, 3.0, 2.0, 1.0, 1.5, 1.5)]
    state = fit(Points(dev), options(patience=2, average_by="loss"), tmp_path, QUIET, seed=0)
    assert [entry["loss"] for entry in state.validations] == [math.inf, 3.0, 2.0, 1.0, 1.5, 1.5]
    assert best_updates(state.validations, 4, "loss") == [3, 4, 5, 6]
    assert read_state(list_checkpoints(tmp_path)[-1]) == state


def test_what_lr_scale_names_learns_by_its_share_of_the_learning_rate(tmp_path: Path) -> None:
    """Adam's first step is as long as the learning rate, whatever the gradient (Kingma & Ba 2015)."""
    task = Points()
    fit(task, options(updates=1, lr_scale={"a": 0.25, "*": 0.5}), tmp_path, QUIET, seed=0)
    moved = [abs(value.item()) for value in (task.model.a, task.model.b)]
    assert moved == pytest.approx([0.1 * 0.25, 0.1 * 0.5], rel=1e-5)
    with pytest.raises(ConfigError, match=r"train.lr_scale: encoder.\* fits no parameter"):
        fit(Points(), options(lr_scale={"encoder.*": 0.1}), tmp_path, QUIET, seed=0)


def test_it_validates_and_saves_at_every_so_many_updates_and_at_the_last(tmp_path: Path) -> None:
    heard: list[tuple[Path | None, TrainState]] = []
    lines: list[Progress] = []
    observer = Observer(lines.append, lambda path, state: heard.append((path, state)))
    state = fit(Points(), options(validate_every=5, log_every=3), tmp_path, observer, seed=0)
    assert [path for path, _ in heard] == list_checkpoints(tmp_path)
    assert [found.update for _, found in heard] == [5, 10, 12]
    assert heard[-1][1] == state
    assert [entry["update"] for entry in state.validations] == [5.0, 10.0, 12.0]
    assert [line.update for line in lines] == [3, 6, 9, 12]
    assert [line.lr for line in lines] == [inverse_sqrt(update, peak=0.1, warmup=0) for update in (3, 6, 9, 12)]


@pytest.mark.parametrize("stop", [1, 3, 5, 7, 10])
def test_a_resume_takes_the_batches_that_come_next(tmp_path: Path, stop: int) -> None:
    """Epochs of five, groups of three: groups reach over the end of an epoch."""
    whole = Points()
    fit(whole, options(accumulate=3), tmp_path / "whole", QUIET, seed=0)
    begun, resumed = Points(), Points()
    fit(begun, options(accumulate=3, updates=stop), tmp_path / "cut", QUIET, seed=0)
    fit(resumed, options(accumulate=3), tmp_path / "cut", QUIET, seed=0, resume=list_checkpoints(tmp_path / "cut")[-1])
    assert begun.taken + resumed.taken == whole.taken
    assert len(whole.taken) == 36
    assert torch.equal(resumed.model.a, whole.model.a)
    assert torch.equal(resumed.model.b, whole.model.b)


def test_a_frozen_parameter_stands_still_until_its_update_and_has_no_past(tmp_path: Path) -> None:
    task = Points(freeze={"a": 5})
    fit(task, options(updates=6, weight_decay=0.1), tmp_path, QUIET, seed=0)
    values = [load_file(path / "model.safetensors")["a"].item() for path in list_checkpoints(tmp_path)]
    assert values[:4] == [0.0] * 4
    assert 0.0 != values[4] != values[5]
    model = Line()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    load_checkpoint(list_checkpoints(tmp_path)[-1], Learner(model, optimizer))
    assert [optimizer.state[p]["step"].item() for p in (model.a, model.b)] == [2, 6]


def test_a_resume_among_frozen_updates_goes_on_alike(tmp_path: Path) -> None:
    whole, begun, resumed = (Points(freeze={"a": 5}) for _ in range(3))
    fit(whole, options(), tmp_path / "whole", QUIET, seed=0)
    fit(begun, options(updates=3), tmp_path / "cut", QUIET, seed=0)
    fit(resumed, options(), tmp_path / "cut", QUIET, seed=0, resume=list_checkpoints(tmp_path / "cut")[-1])
    assert torch.equal(resumed.model.a, whole.model.a)
    assert torch.equal(resumed.model.b, whole.model.b)


def test_a_model_of_which_all_is_frozen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        fit(Points(freeze={"a": 5, "b": 5}), options(), tmp_path, QUIET, seed=0)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(list_checkpoints(folder)[-1] / "model.safetensors")


@pytest.mark.parametrize("wish", [Wish.SAVE, Wish.STOP])
def test_a_wish_is_a_checkpoint_at_once_and_changes_nothing_in_the_end(wish: Wish, tmp_path: Path) -> None:
    schedule = options(updates=8, validate_every=4)
    expected = fit(Points(), schedule, tmp_path / "undisturbed", QUIET, seed=1)
    heard: list[tuple[int, bool]] = []

    def hear(_: Path | None, state: TrainState) -> None:
        heard.append((state.update, state.validated))

    observer = Observer(lambda _: None, hear, lambda update: wish if update == 6 else Wish.GO_ON)
    if wish is Wish.SAVE:
        state = fit(Points(), schedule, tmp_path / "disturbed", observer, seed=1)
    else:
        with pytest.raises(Stopped):
            fit(Points(), schedule, tmp_path / "disturbed", observer, seed=1)
        saved = list_checkpoints(tmp_path / "disturbed")[-1]
        task = Points()
        state = fit(task, schedule, tmp_path / "disturbed", observer, seed=1, resume=saved)
        assert task.taken == [Position(1, 1), Position(1, 2)]
    assert heard == [(4, True), (6, False), (8, True)]
    assert state.validations == expected.validations
    assert weights_of(tmp_path / "disturbed") == weights_of(tmp_path / "undisturbed")


def test_a_training_that_was_killed_ends_as_if_it_was_not(shards: str, tmp_path: Path) -> None:
    """kill -9 of a process at a random moment: dropout, masks, the cache, what is frozen, Adam's state, all go on."""
    expected = processes.train_with_dropout_and_masks(shards, tmp_path / "whole", lambda progress: None)
    updates = random.SystemRandom().randint(3, 11)
    context = multiprocessing.get_context("spawn")
    listener, speaker = context.Pipe()
    process = context.Process(target=processes.train_and_tell, args=(shards, tmp_path / "cut", speaker))
    process.start()
    speaker.close()
    while listener.recv() < updates:
        pass
    process.kill()
    process.join()
    assert process.exitcode == -9
    left = list_checkpoints(tmp_path / "cut")
    assert left
    for path in left:
        model = processes.build_model()
        load_checkpoint(path, Learner(model, torch.optim.AdamW(model.parameters(), fused=True)))
    lines: list[int] = []
    state = processes.train_with_dropout_and_masks(
        shards, tmp_path / "cut", lambda progress: lines.append(progress.update)
    )
    assert lines == list(range(int(left[-1].name[7:]) + 1, 13)), "it went on from the last checkpoint"
    assert state.validations == expected.validations, f"killed after update {updates}"
    one, other = (load_file(list_checkpoints(tmp_path / name)[-1] / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(value, other[name]) for name, value in one.items()), f"killed after update {updates}"
