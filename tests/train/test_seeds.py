"""Random numbers of an update, by the plan and not by process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import dropout

from xlst_ray.train.seeds import seed_generators, seeds_of
from xlst_ray.train.step import World


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 10**6))
def test_a_batch_has_its_seed_on_any_number_of_processes(ranks: int, size: int, each: int, update: int) -> None:
    def by_batch(size: int) -> dict[tuple[int, int], int]:
        found = {}
        for rank in range(size):
            shares = World(rank, size, ranks=ranks).shares
            places = [(number, share) for number in range(each) for share in shares]  # the order of `BatchSource`
            found |= dict(zip(places, seeds_of(3, update, shares, len(places)), strict=True))
        return found

    alone = by_batch(1)
    assert len({seed % 2**32 for seed in alone.values()}) == ranks * each, "torch's generator on CPUs uses 32 bits"
    assert by_batch(min(size, ranks)) == alone


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_a_seed_decides_the_masks(device: str) -> None:
    """As by `torch.manual_seed`, which is slow."""
    ones = torch.ones(10_000, device=device)

    def mask(seed: int) -> torch.Tensor:
        seed_generators(seed, ones.device)
        return dropout(ones, 0.5)

    assert torch.equal(mask(7), mask(7))
    assert not torch.equal(mask(7), mask(8))
    by_name = mask(2**60 + 9)
    torch.manual_seed(2**60 + 9)
    assert torch.equal(dropout(ones, 0.5), by_name)
