"""What TensorBoard is given, as TensorBoard reads it."""

from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import processes
import pytest
import tones
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from xlst_ray.batches.position import Position
from xlst_ray.batches.source import PlainSource
from xlst_ray.train.board import TensorBoard, watch
from xlst_ray.train.checkpoint import list_checkpoints
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.task import Extent, LossSum, Sample


class Weight:
    """A task of one weight, whose validations find its number of updates, and which says `x | y`."""

    def __init__(self) -> None:
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        self.validated = 0

    def batches(self, start: Position) -> Generator[tuple[Tensor, Position], None, None]:
        for number in count(start.batch):
            yield torch.ones(1, 1), Position(0, number + 1)

    def dev_batches(self) -> Iterator[Tensor]:
        yield torch.ones(1, 1)

    def count(self, batch: Tensor) -> int:
        return 1

    def extent(self, batch: Tensor) -> Extent:
        return Extent(3, 4, 7.0)

    def loss(self, model: nn.Module, batch: Tensor) -> LossSum:
        return LossSum(model(batch).square().sum(), 1)

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset()

    def samples(self) -> list[Sample]:
        self.validated += 1
        return [Sample("one", "x", f"x | y {self.validated}")]


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, name: str) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars(name)}


def watched(task: Weight, folder: Path, updates: int, heard: list[Progress], **changes: object) -> None:
    options = TrainOptions(updates=updates, warmup=0, lr=0.1, validate_every=2, log_every=1)
    done = list_checkpoints(folder / "checkpoints")
    observer = Observer(heard.append, lambda path, state: None)
    board = TensorBoard(folder / "board", int(done[-1].name[-7:]) if done else 0)
    fit(
        task, options, folder / "checkpoints", watch(observer, task, [board]), seed=0, resume=done[-1] if done else None
    )


def test_curves_are_the_progress_lines_and_the_validations(tmp_path: Path) -> None:
    heard: list[Progress] = []
    watched(Weight(), tmp_path, 4, heard)
    assert {"speed/tflops_per_second", "speed/share_of_peak"}.isdisjoint(read(tmp_path / "board").Tags()["scalars"])
    assert [progress.update for progress in heard] == [1, 2, 3, 4]
    for name, value in {
        "train/loss": lambda p: p.logs["loss"],
        "train/grad_norm": lambda p: p.logs["grad_norm"],
        "train/lr": lambda p: p.lr,
        "speed/data_wait": lambda p: p.waiting,
        "speed/padding": lambda p: 0.25,
        "speed/audio_hours_per_hour": lambda p: p.audio_rate,
    }.items():
        assert curve(tmp_path / "board", name) == pytest.approx({p.update: value(p) for p in heard}), name
    assert list(curve(tmp_path / "board", "dev/loss")) == [2, 4]


def test_hypotheses_stand_as_they_are_in_a_table(tmp_path: Path) -> None:
    watched(Weight(), tmp_path, 2, [])
    board = read(tmp_path / "board")
    (event,) = board.Tensors("dev/hypotheses/text_summary")
    assert event.step == 2
    assert event.tensor_proto.string_val[0].decode().splitlines()[2] == "| one | x | x \\| y 1 |"


def test_a_run_that_goes_on_replaces_what_lay_behind_its_checkpoint(tmp_path: Path) -> None:
    watched(Weight(), tmp_path, 3, [])  # checkpoints at 2 and 3
    last = list_checkpoints(tmp_path / "checkpoints")[-1]
    last.rename(tmp_path / "lost")
    heard: list[Progress] = []
    watched(Weight(), tmp_path, 6, heard)
    assert [progress.update for progress in heard] == [3, 4, 5, 6]
    found = curve(tmp_path / "board", "train/loss")
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert found[3] == pytest.approx(heard[0].logs["loss"])


def test_looking_at_hypotheses_changes_no_weight(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path / "shards", "train", ["ab", "cde", "f", "gh"])
    options = TrainOptions(updates=3, warmup=0, lr=1e-3, validate_every=1)
    texts = dict(enumerate("____" + tones.LETTERS))
    weights = []
    for look in (False, True):
        torch.manual_seed(1)
        source = PlainSource(tones.loader(shards), tones.loader(shards))
        task = SpeechTask(
            processes.build_model(dropout=0.2),
            source,
            options,
            decode=lambda ids: "".join(texts[index] for index in ids),
        )
        observer = Observer(lambda progress: None, lambda path, state: None)
        if look:
            observer = watch(observer, task, [TensorBoard(tmp_path / "board", 0)])
        fit(task, options, tmp_path / str(look), observer, seed=0)
        weights.append(torch.cat([value.detach().flatten() for value in task.model.parameters()]))
        samples = task.samples()
        assert {sample.name: sample.reference for sample in samples} == {
            f"train-0-{number}": text for number, text in enumerate(["ab", "cde", "f", "gh"])
        }
        assert task.model.training
    assert torch.equal(*weights)
