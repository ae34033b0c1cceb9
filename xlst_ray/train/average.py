"""A running average of the weights (Polyak and Juditsky 1992), which is validated and exported in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xlst_ray.train.shard import local


class RunningAverage:
    """An exponential moving average of a model's parameters.

    The decay grows with the updates, min(decay, (1 + n) / (10 + n)), as in TensorFlow's `ExponentialMovingAverage`, so
    that a short training does not end as it began.

    Attributes:
        values: by parameter name, float32.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after update `number`, from 1."""
        decay = min(self._decay, (1 + number) / (10 + number))
        averages = [local(value) for value in self.values.values()]
        torch._foreach_lerp_(averages, [local(value) for value in self._model.parameters()], 1 - decay)

    def load(self, values: dict[str, Tensor]) -> None:
        """Go on from an average that was saved."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights within the block."""
        trained = {name: value.detach().clone() for name, value in self._model.named_parameters()}
        _set(self._model, self.values)
        try:
            yield
        finally:
            _set(self._model, trained)


@torch.no_grad()
def _set(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
