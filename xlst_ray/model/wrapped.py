"""Layers that compute the same in another way while they train: compiled, or with activations computed again."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def compile_layers(model: nn.Module) -> None:
    """From now on each layer of the model's encoders and decoder is what `torch.compile` makes of it.

    Layer by layer, as all of a kind share one result, which holds for every size of batch: it takes a minute, whatever
    the depth.
    """
    for layer in _layers(model):
        layer.forward = torch.compile(layer.forward, dynamic=True)


def recompute_layers(model: nn.Module) -> None:
    """From now on each layer of the model's encoders and decoder keeps its input alone in training, and computes its
    activations again in the backward pass (Chen et al. 2016, arXiv 1604.06174).

    The random numbers of a layer are those of its first pass, so that the gradient stays what it is, to the last bit.
    """
    for layer in _layers(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[None]:
    """Within the block the layers compute as they are written."""
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
