"""Training the translation model: the task that `xlst_ray.train` runs. The loss is on the target side alone."""

import itertools
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from xlst_ray.batches.position import Position
from xlst_ray.errors import TrainingError
from xlst_ray.model.loss import label_smoothed_sum, send
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.train.task import Contents, Extent, LossSum, Shape

IGNORE: Final = -100  # a label without loss


@dataclass(frozen=True)
class LMBatch:
    """Token ids and next-token labels, both [B, U] int64; labels of prompt and padding are `IGNORE`."""

    tokens: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Example:
    prompt: tuple[int, ...]
    target: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


class LMTask:
    """A `Task` over sentence pairs.

    Batches hold pairs of like length, at most `max_tokens` with padding, regrouped and reordered each epoch as a
    function of (pairs, seed, epoch); every epoch has equally many. Of `world` ranks each takes every world-th batch;
    `ranks` are those whose batches this process trains on.

    Args:
        model: the `LlamaForCausalLM` to train.
        info: how a pair becomes a prompt and its answer.
        max_tokens: tokens of a batch, padding included.

    Attributes:
        dropped: training pairs that are longer than the model's positions, and left out.

    Raises:
        TrainingError: no pair fits into the model's positions, or none of those to validate on.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        info: LMInfo,
        pairs: Sequence[tuple[str, str]],
        dev_pairs: Sequence[tuple[str, str]] = (),
        *,
        seed: int = 0,
        max_tokens: int = 2000,
        label_smoothing: float = 0.1,
        ranks: Sequence[int] = (0,),
        world: int = 1,
    ) -> None:
        self.model: nn.Module = model
        longest = int(model.config.max_position_embeddings)
        examples = [_encode(tokenizer, info, pair) for pair in pairs]
        self._examples = [example for example in examples if len(example) <= longest]
        self.dropped = len(examples) - len(self._examples)
        if not self._examples:
            raise TrainingError(f"none of {len(examples)} sentence pairs has at most {longest} tokens")
        dev = (_encode(tokenizer, info, pair) for pair in dev_pairs)
        self._dev = sorted((example for example in dev if len(example) <= longest), key=len)
        if dev_pairs and not self._dev:
            raise TrainingError(f"none of {len(dev_pairs)} pairs to validate on has at most {longest} tokens")
        self._seed, self._max_tokens, self._label_smoothing = seed, max_tokens, label_smoothing
        self._ranks, self._world = ranks, world

    @property
    def batches_per_epoch(self) -> int:
        """Batches that each rank sees in one pass over the pairs."""
        return -(-len(self._plan(0)) // self._world)

    def batches(self, start: Position) -> Generator[tuple[LMBatch, Position], None, None]:
        """See `Task.batches`."""
        first = start.batch
        for epoch in itertools.count(start.epoch):
            plan, each = self._plan(epoch), self.batches_per_epoch
            for number in range(first, each):
                after = Position(epoch, number + 1) if number + 1 < each else Position(epoch + 1, 0)
                for rank in self._ranks:
                    # The last round wraps around, so that every rank has as many batches as the others.
                    yield _collate(plan[(number * self._world + rank) % len(plan)]), after
            first = 0

    def dev_batches(self) -> Iterator[LMBatch]:
        """See `Task.dev_batches`."""
        batches = _group(self._dev, self._max_tokens)
        for rank in self._ranks:
            yield from map(_collate, batches[rank :: self._world])

    def count(self, batch: LMBatch) -> int:
        """See `Task.count`."""
        return int((batch.labels != IGNORE).sum())

    def extent(self, batch: LMBatch) -> Extent:
        """See `Task.extent`: tokens of prompts and targets."""
        ends = (batch.labels != IGNORE).flip(1).cumsum(1) > 0  # true up to the last target token, seen from the end
        return Extent(int(ends.sum()), batch.labels.numel())

    def shape(self, batch: LMBatch) -> Shape:
        """See `Shaped.shape`: there are no frames."""
        return Shape(len(batch.tokens), 0, batch.tokens.shape[1])

    def example(self, shape: Shape) -> LMBatch:
        """See `Shaped.example`: all tokens are targets."""
        tokens = torch.ones(shape.utterances, shape.tokens, dtype=torch.long)
        return LMBatch(tokens, tokens)

    def contents(self, batch: LMBatch) -> Contents:
        """See `Task.contents`: pairs have no ids, rows are counted."""
        rows = tuple(f"row {number}" for number in range(len(batch.tokens)))
        return Contents(rows, {"tokens": batch.tokens, "labels": batch.labels})

    def loss(self, model: nn.Module, batch: LMBatch) -> LossSum:
        """Label-smoothed cross-entropy over target tokens and `</s>`; logs: `nll`, `accuracy` (tokens right)."""
        device = next(self.model.parameters()).device
        logits: Tensor = model(input_ids=send(batch.tokens, device)).logits  # [B, U, V]
        found = label_smoothed_sum(logits, batch.labels, self._label_smoothing, IGNORE)
        return LossSum(found.loss, found.tokens, {"nll": found.nll, "accuracy": found.correct})

    def frozen(self, update: int) -> frozenset[str]:
        """See `Task.frozen`: nothing is."""
        return frozenset()

    def _plan(self, epoch: int) -> list[list[_Example]]:
        generator = random.Random(f"{self._seed}-{epoch}")
        # Shuffled, then sorted by length: only pairs of one length change places, so every epoch cuts alike.
        shuffled = sorted(generator.sample(self._examples, len(self._examples)), key=len)
        batches = _group(shuffled, self._max_tokens)
        generator.shuffle(batches)
        return batches


def _encode(tokenizer: Any, info: LMInfo, pair: tuple[str, str]) -> _Example:
    source, target = pair
    spelled = tokenizer(target, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return _Example(tuple(tokenizer(info.fill(source))["input_ids"]), (*spelled, tokenizer.eos_token_id))


def _cut(lengths: Sequence[int], max_tokens: int) -> list[slice]:
    """Cut ascending lengths into batches of at most `max_tokens` with padding; a longer one stands alone."""
    slices, start = [], 0
    for end, length in enumerate(lengths):
        if end > start and (end - start + 1) * length > max_tokens:
            slices.append(slice(start, end))
            start = end
    return [*slices, slice(start, len(lengths))] if lengths else []


def _group(examples: Sequence[_Example], max_tokens: int) -> list[list[_Example]]:
    return [list(examples[part]) for part in _cut([len(example) for example in examples], max_tokens)]


def _collate(examples: Sequence[_Example]) -> LMBatch:
    # Padded on the right, where a causal model cannot look back from: no attention mask is needed, any id will do.
    longest = max(len(example) for example in examples) - 1
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORE)
    for row, example in enumerate(examples):
        joined = torch.tensor(example.prompt + example.target)
        tokens[row, : len(joined) - 1] = joined[:-1]
        labels[row, len(example.prompt) - 1 : len(joined) - 1] = joined[len(example.prompt) :]
    return LMBatch(tokens, labels)
