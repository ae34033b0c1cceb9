"""What only a GPU does: on one, training and search are those of a CPU; runs where there is one."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from processes import OPTIONS, SILENT, Dealt, build_model

from xlst_ray.batches.capacity import search_table
from xlst_ray.model.beam import BeamOptions, beam_search
from xlst_ray.train.checkpoint import checkpoint_name
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.memory import GIB, Memory
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World, update_model
from xlst_ray.train.task import Shape

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
PARTS = [[0, 1, 2], [3], [4, 5], [0, 1, 2, 3, 4, 5, 6, 7]]
GPU = World(device=torch.device("cuda", 0))


@pytest.fixture(autouse=True)
def _float32_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions take TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch._dynamo.reset()


def losses(shards: str, world: World, *, options: TrainOptions = OPTIONS, dropout: float = 0.0, encoder: str) -> list:
    """Of an update with each part, one after another."""
    model = build_model(encoder=encoder, encoder_layers=3, dropout=dropout).to(world.device).train()
    batches = processes.load(shards, PARTS)
    task = SpeechTask(model, Dealt(batches, World()), options, device=world.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    found = []
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        found.append(update_model(task, model, optimizer, [batch], world, 1.0)["loss"])
    return found


@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
@pytest.mark.parametrize("wrapped", ["", "recompute", "compile", "compile recompute"])
def test_updates_are_those_of_a_cpu(shards: str, encoder: str, wrapped: str) -> None:
    here = losses(shards, World(), encoder=encoder)
    options = OPTIONS.replace(**dict.fromkeys(wrapped.split(), True))
    there = losses(shards, GPU, options=options, encoder=encoder)
    assert there == pytest.approx(here, rel=2e-4)
    assert all(later != earlier for earlier, later in pairwise(here))


@pytest.mark.parametrize("wrapped", ["", "compile"])
def test_dropout_follows_the_seed(shards: str, wrapped: str) -> None:
    options = OPTIONS.replace(**dict.fromkeys(wrapped.split(), True))
    first, again = (losses(shards, GPU, options=options, dropout=0.2, encoder="transformer") for _ in range(2))
    assert first == pytest.approx(again, rel=1e-4)
    assert first != pytest.approx(losses(shards, GPU, encoder="transformer"), rel=1e-3)


def test_forward_and_backward_pass_do_not_wait_for_the_gpu(shards: str) -> None:
    """But for CTC, whose lengths torch sends itself."""
    model = build_model(ctc=False).to(GPU.device).train()
    (batch,) = processes.load(shards, PARTS[:1])
    task = SpeechTask(model, Dealt([], World()), OPTIONS.replace(ctc_weight=0.0), device=GPU.device)
    task.loss(model, batch).loss.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        task.loss(model, batch).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_learns_in_half_precision(shards: str, tmp_path: Path, precision: str) -> None:
    model, heard = build_model(), list[Progress]()
    batches = processes.load(shards, [[0, 1, 2, 3]])
    options = OPTIONS.replace(updates=60, validate_every=60, log_every=10, lr=3e-3, precision=precision)
    task = SpeechTask(model, Dealt(batches, World()), options, device=GPU.device)
    fit(task, options, tmp_path, Observer(heard.append, lambda path, state: None), seed=1, world=GPU)
    assert heard[-1].logs["loss"] < 0.5 * heard[0].logs["loss"]
    assert heard[-1].peak_share is None or 0 < heard[-1].peak_share < 1


def test_a_training_that_goes_on_takes_the_updates_of_one_that_was_not_stopped(shards: str, tmp_path: Path) -> None:
    """Up to sums in another order each time, of which Adam makes whole steps where a gradient is nought."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = []
    for folder, ends in ((whole, [4]), (parts, [2, 4])):
        for end in ends:
            model = build_model(dropout=0.1)
            task = SpeechTask(model, Dealt(processes.load(shards, PARTS), World()), OPTIONS, device=GPU.device)
            resume = folder / checkpoint_name(2) if (folder / checkpoint_name(2)).exists() else None
            state = fit(task, OPTIONS.replace(updates=end), folder, SILENT, seed=1, world=GPU, resume=resume)
        found.append([entry["loss"] for entry in state.validations])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[0][0] != pytest.approx(found[0][1], rel=1e-2)


def test_the_largest_batch_is_found_by_trying() -> None:
    task = SpeechTask(build_model(encoder_layers=4), Dealt([], World()), OPTIONS, device=GPU.device)
    memory = Memory(task, OPTIONS, GPU, budget=0.5)
    table = search_table([(400, 20), (3000, 150)], memory.fits, 4096)
    (*_, many), (*_, few) = table
    assert 1 <= few < many < 4096
    torch.cuda.reset_peak_memory_stats()
    task.loss(task.model, task.example(Shape(few, 3000, 150))).loss.backward()
    assert 0.2 * GIB < torch.cuda.max_memory_reserved() < 0.6 * GIB


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_the_search_finds_what_it_finds_on_a_cpu(ctc_weight: float) -> None:
    model = build_model(encoder_layers=3).double().eval()
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 150, 80)))
    lengths = torch.tensor([150, 149, 120, 90, 40, 20])
    options = BeamOptions(beam=5, ctc_weight=ctc_weight, max_tokens=8, max_tokens_ratio=0.2)
    here = beam_search(model, features, lengths, options)
    there = beam_search(model.cuda(), features.cuda(), lengths.cuda(), options)
    assert [[one.tokens for one in row] for row in there] == [[one.tokens for one in row] for row in here]
    for ours, theirs in zip(here, there, strict=True):
        assert [one.score for one in theirs] == pytest.approx([one.score for one in ours], abs=1e-4)
