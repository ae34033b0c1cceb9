"""Dropout by random bytes: the distribution, the scale, the seed."""

import pytest
import torch

from xlst_ray.model.dropout import Dropout, drop


@pytest.mark.parametrize("p", [0.001, 0.1, 0.15, 0.3, 0.5, 0.999])
def test_the_share_dropped_is_p_and_the_expectation_stays(p: float) -> None:
    torch.manual_seed(3)
    x = torch.full((1000, 1001), 2.0)
    y = drop(x, p)
    exact = min(max(round(p * 256), 1), 255) / 256
    share = (y == 0).double().mean().item()
    assert abs(exact - p) <= 1 / 256
    assert share == pytest.approx(exact, abs=5 * (exact * (1 - exact) / y.numel()) ** 0.5)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 2 / (1 - exact)))


def test_every_place_is_dropped_alike_and_neighbours_independently() -> None:
    """All eight bytes of a drawn word are uniform: without its sign bit every eighth place would be kept too rarely."""
    torch.manual_seed(4)
    dropped = (drop(torch.ones(200_000, 8), 0.5) == 0).double()
    assert (dropped.mean(0) - 0.5).abs().max() < 5 * 0.5 / 200_000**0.5
    correlation = torch.corrcoef(dropped.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / 200_000**0.5


def test_a_seed_gives_the_same_zeros_and_another_gives_others() -> None:
    x = torch.ones(501)
    torch.manual_seed(5)
    one, later = drop(x, 0.4), drop(x, 0.4)
    torch.manual_seed(5)
    assert torch.equal(drop(x, 0.4), one)
    assert not torch.equal(later, one)


def test_gradients_pass_where_elements_passed() -> None:
    x = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    y = drop(x, 0.3)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


def test_the_module_acts_in_training_only() -> None:
    x = torch.ones(100)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert not torch.equal(Dropout(0.5)(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
