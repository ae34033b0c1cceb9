"""Random numbers of an update: a function of the training's seed, the update, and where its batches stand in the plan.

They do not belong to a process: however many there are, a batch has the same masks of dropout.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from xlst_ray.train.task import B

_GOLDEN: Final = 0x9E3779B1  # 2^32 divided by the golden ratio: multiples lie far apart in the 32 bits that torch uses


def seeds_of(seed: int, update: int, ranks: Sequence[int], batches: int) -> list[int]:
    """For each batch of a process in an update, what torch is seeded with before it.

    Args:
        ranks: of the plan whose batches the process takes; in turn, one of each (`World.shares`).
    """
    first = [(seed * 1_000_003 + update) * 1_009 + rank for rank in ranks]
    return [first[place % len(ranks)] + place // len(ranks) * _GOLDEN for place in range(batches)]


def seeded(batches: Sequence[B], seeds: Sequence[int], device: torch.device) -> Iterator[B]:
    """Batches, before each of which its seed is set; without seeds the generators are left alone."""
    for place, batch in enumerate(batches):
        if seeds:
            seed_generators(seeds[place], device)
        yield batch


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's: what `torch.manual_seed` does, in a hundredth of its time."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # which makes the generators
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
