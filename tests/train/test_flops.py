"""What an update costs, against torch's own counter on real batches, and by hand."""

from pathlib import Path

import processes
import pytest
import tones
import torch
from processes import OPTIONS, Dealt, build_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xlst_ray.batches.batch import Batch
from xlst_ray.train.board import TensorBoard, watch
from xlst_ray.train.flops import count_flops, peak, peak_of
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World
from xlst_ray.train.task import Shape

PARTS = [[0, 1, 2], [3], [4, 5], [0, 1, 2, 3, 4, 5, 6, 7]]


def counted_by_torch(task: SpeechTask, batch: Batch) -> int:
    """In bfloat16, where all products are operators that it knows; as many as in float32."""
    half = torch.autocast("cpu", torch.bfloat16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), half:
        task.loss(task.model, batch).loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_cost_is_what_torch_counts(shards: str, encoder: str, frozen: bool) -> None:
    """Of batches of other sizes than it was made from; of a model with a frozen encoder, which has no backward pass."""
    batches = processes.load(shards, PARTS)
    task = SpeechTask(build_model(encoder=encoder, dropout=0.1), Dealt(batches, World()), OPTIONS)
    for name, parameter in task.model.named_parameters():
        parameter.requires_grad_(not (frozen and name.startswith("encoder.")))
    cost = count_flops(task, World())
    assert cost is not None
    for batch in batches:
        assert cost(task.shape(batch)) == pytest.approx(counted_by_torch(task, batch), rel=0.05), "steps are rounded up"
    large = Shape(40, 1200, 90)
    assert cost(large) == pytest.approx(counted_by_torch(task, task.example(large)), rel=0.005)


def test_counting_leaves_no_trace(shards: str) -> None:
    task = SpeechTask(build_model(dropout=0.1), Dealt([], World()), OPTIONS.replace(recompute=True))
    plain = SpeechTask(build_model(dropout=0.1), Dealt([], World()), OPTIONS)
    before, state = [p.clone() for p in task.model.parameters()], torch.random.get_rng_state()
    costs = [count_flops(one, World()) for one in (task, plain)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, p) and p.grad is None for one, p in zip(before, task.model.parameters(), strict=True))
    shape = Shape(4, 128, 16)
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0](shape) == costs[1](shape), "what is computed again is no work of the model's"
    again = counted_by_torch(task, task.example(shape))
    assert again > 1.1 * costs[0](shape), "and the layers compute it again as before"


def test_an_example_has_its_shape() -> None:
    task = SpeechTask(build_model(), Dealt([], World()), OPTIONS)
    batch = task.example(Shape(3, 50, 7))
    assert task.shape(batch) == Shape(3, 50, 7)
    assert task.count(batch) == 21
    assert bool(torch.isfinite(task.loss(task.model, batch).loss))
    assert int(batch.targets.max()) < tones.VOCABULARY


def test_the_line_and_the_board_tell_what_the_device_does(shards: str, tmp_path: Path) -> None:
    """All FLOPs of the updates since the last line, over its seconds; on a CPU without a share."""
    batches, heard = processes.load(shards, PARTS), list[Progress]()
    options = OPTIONS.replace(log_every=2, validate_every=4)
    task = SpeechTask(build_model(), Dealt(batches, World()), options)
    observer = watch(Observer(heard.append, lambda path, state: None), task, [TensorBoard(tmp_path / "board", 0)])
    fit(task, options, tmp_path, observer, seed=0)
    cost = count_flops(task, World())
    assert cost is not None
    each = [cost(task.shape(batch)) for batch in batches]
    first, second = heard
    assert second.flops * (second.seconds - first.seconds) == pytest.approx(each[2] + each[3], rel=1e-6)
    assert [line.peak_share for line in heard] == [None, None]
    curve = EventAccumulator(str(tmp_path / "board")).Reload().Scalars("speed/tflops_per_second")
    assert [event.value for event in curve] == pytest.approx([line.flops / 1e12 for line in heard])


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 PCIe", "fp16", 756.5e12),
        ("NVIDIA H200", "bf16", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362.05e12),
        ("Tesla T4", "fp16", 65e12),
        ("Tesla T4", "bf16", None),
        ("NVIDIA T400 4GB", "fp16", None),
        ("Another 9000", "bf16", None),
    ],
)
def test_the_peak_is_the_data_sheet_s(name: str, precision: str, expected: float | None) -> None:
    assert peak_of(name, precision) == expected
    assert peak(torch.device("cpu"), precision) is None
