"""Activations that are computed again in the backward pass instead of kept (Chen et al. 2016, arXiv 1604.06174)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: nn.Module) -> None:
    """From now on each layer of the model's encoders and decoder keeps its input alone in training.

    The random numbers of a layer are those of its first pass, so that the gradient stays what it is, to the last bit.
    """
    for layer in _layers(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


@contextmanager
def without_recomputing(model: nn.Module) -> Iterator[None]:
    """Within the block the layers keep all that they compute."""
    replaced = [(layer, layer.__dict__.pop("forward")) for layer in _layers(model) if "forward" in layer.__dict__]
    try:
        yield
    finally:
        for layer, forward in replaced:
            layer.forward = forward


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    for name, layers in model.named_modules():
        if name.endswith(".layers") and isinstance(layers, nn.ModuleList):
            yield from layers
