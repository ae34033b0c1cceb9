"""What the training loop asks of a task: a model, its loss as a sum with a count, batches by position, a dev set."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from xlst_ray.batches.position import Position

B = TypeVar("B")


class Extent(NamedTuple):
    """What a model reads of a batch: `true` frames or tokens, `padded` ones as computed, `seconds` of audio, if any."""

    true: int
    padded: int
    seconds: float = 0.0


class Shape(NamedTuple):
    """A batch as it is computed: B utterances, T frames and U target tokens of the longest."""

    utterances: int
    frames: int
    tokens: int


class Contents(NamedTuple):
    """A batch to be looked at: the ids of its examples, and its tensors by name, each with a row an example."""

    ids: tuple[str, ...]
    tensors: dict[str, Tensor]


class Sample(NamedTuple):
    """A development utterance: its id, what was said or is meant, and what the model makes of it."""

    name: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class LossSum:
    """A loss summed over a batch, and what it is to be divided by.

    Attributes:
        loss: scalar with a graph: the sum over target tokens.
        count: target tokens, the divisor after accumulation and over all ranks.
        logs: further sums over target tokens, detached (`nll`, `correct`, `ctc`): divided by the count when shown.
    """

    loss: Tensor
    count: int
    logs: dict[str, Tensor] = field(default_factory=dict)


class Task(Protocol[B]):
    """A model and its data, as one rank sees them. `B` is the batch type, opaque to the loop."""

    model: nn.Module

    def batches(self, start: Position) -> Generator[tuple[B, Position], None, None]:
        """This rank's batches without end, epoch after epoch, each with the position after it. The loop closes them.

        The order is a function of (seed, epoch), and every rank has as many batches as the others.
        """
        ...

    def dev_batches(self) -> Iterator[B]:
        """This rank's part of the development set; empty where there is none."""
        ...

    def count(self, batch: B) -> int:
        """Target tokens of a batch: known before the forward pass, so that gradients can be normalised globally."""
        ...

    def extent(self, batch: B) -> Extent:
        """How large a batch is: for the progress lines."""
        ...

    def contents(self, batch: B) -> Contents:
        """What is in a batch: for whoever looks for what is wrong with it."""
        ...

    def loss(self, model: nn.Module, batch: B) -> LossSum:
        """The loss of a batch by `model`, which is `self.model`, perhaps wrapped for data parallelism."""
        ...

    def frozen(self, update: int) -> frozenset[str]:
        """Names of the parameters that do not train at this update."""
        ...


@runtime_checkable
class Shaped(Protocol[B]):
    """A task whose batches have shapes that decide what they cost."""

    def shape(self, batch: B) -> Shape:
        """That of a batch."""
        ...

    def example(self, shape: Shape) -> B:
        """A batch of a shape, of made-up utterances that are all of its length."""
        ...


@runtime_checkable
class Sampling(Protocol):
    """A task that can show what its model says; asked on rank 0 alone, between two updates."""

    def samples(self) -> list[Sample]:
        """A few utterances of the development set, the same ones each time; none where there are none."""
        ...
