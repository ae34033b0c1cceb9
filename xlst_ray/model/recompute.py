"""Activations that are computed again in the backward pass instead of kept (Chen et al. 2016, arXiv 1604.06174)."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: nn.Module) -> None:
    """From now on each layer of the model's encoders and decoder keeps its input alone in training.

    The random numbers of a layer are those of its first pass, so that the gradient stays what it is, to the last bit.
    """
    for name, layers in model.named_modules():
        if name.endswith(".layers") and isinstance(layers, nn.ModuleList):
            for layer in layers:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
