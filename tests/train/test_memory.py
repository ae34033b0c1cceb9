"""What a batch takes on a CPU, and the search that fills a budget with it."""

import processes
import pytest
import torch
from processes import OPTIONS, Dealt, build_model

from xlst_ray.batches.capacity import search_table
from xlst_ray.errors import ConfigError
from xlst_ray.train.memory import GIB, Memory, _Peak
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World


def test_the_peak_is_what_is_alive_at_a_time() -> None:
    with _Peak() as peak:
        x = torch.ones(1000)
        for _ in range(3):
            y = x * 2  # 4,000 bytes each; the one before is alive until its name is given away
        y.view(10, 100).t()
        del y
        x.add_(1)
    assert peak.bytes == 12_000


def task_of(**changes: object) -> SpeechTask:
    return SpeechTask(build_model(), Dealt([], World()), OPTIONS.replace(**changes))


def largest(frames: int, budget: float, **changes: object) -> int:
    task = task_of(**changes)
    memory = Memory(task, OPTIONS.replace(**changes), World(), budget)
    ((_, _, count),) = search_table([(frames, 8)], memory.fits, 64)
    assert memory.fits(count, frames, 8)
    assert count == 64 or not memory.fits(count + 1, frames, 8)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    return count


def test_more_of_shorter_ones_fit_and_more_where_layers_are_computed_again() -> None:
    parameters = sum(p.nbytes for p in build_model().parameters())
    budget = (4 * parameters + 4 * 2**20) / GIB  # 4 MiB for what a batch computes
    short, long = largest(64, budget), largest(512, budget)
    assert 1 <= long < short < 64
    assert largest(512, budget, recompute=True) > long
    assert largest(64, budget, ema=0.9) < short


def test_a_frozen_encoder_leaves_more_room() -> None:
    names = [name for name, _ in build_model().named_parameters() if name.startswith("encoder.")]
    found = []
    for freeze in ({}, dict.fromkeys(names, processes.OPTIONS.updates + 1)):
        task = SpeechTask(build_model(), Dealt([], World()), OPTIONS, freeze=freeze)
        memory = Memory(task, OPTIONS, World(), 0.008)
        found.append(search_table([(256, 8)], memory.fits, 64)[0][2])
    assert found[1] > found[0]


def test_a_cpu_needs_a_budget() -> None:
    with pytest.raises(ConfigError, match="not known on a CPU"):
        Memory(task_of(), OPTIONS, World(), None)
