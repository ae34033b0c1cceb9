"""Linear layers by oneDNN against torch's own in float64: values, gradients, and where they step aside."""

import pytest
import torch
from torch import Tensor, nn

from xlst_ray.model import linear as module
from xlst_ray.model.linear import Linear, linear

Shape = tuple[int, ...]
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor, whichever library is the faster one there."""
    monkeypatch.setattr(module, "mkl_is_slow", lambda: True)


@needs_onednn
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7), (2, 3, 5, 7), (0, 7)])
def test_values_and_gradients_are_those_of_torch(shape: Shape, bias: bool) -> None:
    torch.manual_seed(0)
    ours, x = Linear(7, 4, bias=bias), torch.randn(shape, requires_grad=True)
    exact, x64 = nn.Linear(7, 4, bias=bias).double(), x.detach().double().requires_grad_()
    exact.load_state_dict(ours.state_dict())
    weights = torch.randn(*shape[:-1], 4)
    (ours(x) * weights).sum().backward()
    (exact(x64) * weights).sum().backward()
    torch.testing.assert_close(ours(x), exact(x64).float())
    torch.testing.assert_close(x.grad, x64.grad.float())
    for one, other in zip(ours.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad.float())
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), exact(x64).float())


@needs_onednn
@pytest.mark.usefixtures("onednn")
def test_views_are_multiplied_as_what_they_show() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(6, 3, 5).transpose(0, 1)[:, ::2], torch.randn(5, 4).t()
    torch.testing.assert_close(linear(x, weight), (x.double() @ weight.double().t()).float())


@needs_onednn
@pytest.mark.usefixtures("onednn")
def test_frozen_weights_pass_gradients_on_and_get_none() -> None:
    frozen, x = Linear(5, 3).requires_grad_(False), torch.randn(2, 5, requires_grad=True)
    frozen(x).sum().backward()
    torch.testing.assert_close(x.grad, frozen.weight.sum(0).expand(2, 5))
    assert frozen.weight.grad is None
    below = torch.randn(2, 5)
    layer = Linear(5, 3)
    layer(below).sum().backward()
    assert below.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((3,), 2.0))


@pytest.mark.usefixtures("onednn")
def test_other_numbers_and_autocast_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Tensor) -> Tensor:
        raise AssertionError("oneDNN's float32 product was called")

    monkeypatch.setattr(module, "_product", never)
    layer, x = Linear(5, 3), torch.randn(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    with pytest.raises(AssertionError, match="was called"):
        layer.float()(x)
