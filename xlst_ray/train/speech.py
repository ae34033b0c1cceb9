"""The speech task: recognition and translation are the same, speech in and target text out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import nn

from xlst_ray.audio.fbank import FRAMES_PER_SECOND
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.position import Position
from xlst_ray.batches.source import Batches, BatchSource
from xlst_ray.model.beam import BeamOptions, recognise
from xlst_ray.model.ctc import ctc_loss_sum
from xlst_ray.model.loss import label_smoothed_sum, send
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.wrapped import compile_layers, recompute_layers
from xlst_ray.text.ids import EOS, SPECIALS
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.task import Contents, Extent, LossSum, Sample, Shape

SAMPLES: Final = 4  # utterances that are shown at each validation
GREEDY: Final = BeamOptions(beam=1)


class SpeechTask:
    """Joint CTC/attention training of an `S2TModel` (Watanabe et al. 2017): (1 - w) attention + w CTC.

    Args:
        source: this rank's batches.
        options: label smoothing and the CTC weight.
        freeze: parameter name -> first update at which it trains.
        device: where the model is.
        frames_per_second: of the features.
        decode: token ids to text, for samples; none: there are none.
        tagged: the first token of each target is that which starts the decoder, in place of `</s>`.
    """

    def __init__(
        self,
        model: S2TModel,
        source: BatchSource,
        options: TrainOptions,
        *,
        freeze: Mapping[str, int] | None = None,
        device: torch.device | None = None,
        frames_per_second: float = FRAMES_PER_SECOND,
        decode: Callable[[Sequence[int]], str] | None = None,
        tagged: bool = False,
    ) -> None:
        if options.compile:
            compile_layers(model)
        if options.recompute:
            recompute_layers(model)
        self.model: nn.Module = model
        self._recogniser, self._decode, self._tags = model, decode, int(tagged)
        self._source, self._options = source, options
        self._freeze = dict(freeze or {})
        self._device, self._rate = device or torch.device("cpu"), frames_per_second

    def batches(self, start: Position) -> Batches:
        return self._source.train(start)

    def dev_batches(self) -> Iterator[Batch]:
        return self._source.dev()

    def count(self, batch: Batch) -> int:
        return int(batch.target_lengths.sum()) - self._tags * len(batch.ids)

    def extent(self, batch: Batch) -> Extent:
        utterances, longest, _ = batch.features.shape
        frames = int(batch.frames.sum())
        return Extent(frames, utterances * longest, frames / self._rate)

    def shape(self, batch: Batch) -> Shape:
        utterances, longest, _ = batch.features.shape
        return Shape(utterances, longest, batch.targets.shape[1])

    def example(self, shape: Shape) -> Batch:
        utterances, longest, tokens = shape
        rng, model = np.random.default_rng(0), self._recogniser
        spoken = (np.arange(tokens) % (model.vocabulary_size - len(SPECIALS)) + len(SPECIALS)).astype(np.int64)
        spoken[-1] = EOS
        return Batch(
            tuple(map(str, range(utterances))),
            rng.standard_normal((utterances, longest, model.input_dim), dtype=np.float32).astype(np.float16),
            np.full(utterances, longest),
            np.tile(spoken, (utterances, 1)),
            np.full(utterances, tokens),
        )

    def contents(self, batch: Batch) -> Contents:
        arrays = {name: getattr(batch, name) for name in ("features", "frames", "targets", "target_lengths")}
        return Contents(batch.ids, {name: torch.tensor(values) for name, values in arrays.items()})

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset(name for name, first in self._freeze.items() if update < first)

    def samples(self) -> list[Sample]:
        """The first utterances of the first development batch, recognised greedily."""
        batch = next(iter(self._source.dev()), None)
        if batch is None or self._decode is None:
            return []
        names = batch.ids[:SAMPLES]
        frames = torch.from_numpy(batch.frames[:SAMPLES])
        features = torch.tensor(batch.features[:SAMPLES, : int(frames.max())])
        starts = torch.tensor(batch.targets[:SAMPLES, 0]).to(self._device) if self._tags else None
        heard = recognise(self._recogniser, features.to(self._device).float(), frames.to(self._device), GREEDY, starts)
        said = [
            tuple(row[self._tags : size - 1])
            for row, size in zip(batch.targets.tolist(), batch.target_lengths, strict=True)
        ]
        return [
            Sample(name, self._decode(reference), self._decode(found.hypotheses[0].tokens))
            for name, reference, found in zip(names, said, heard, strict=False)
        ]

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Logs: `nll` (attention, unsmoothed), `accuracy` (teacher-forced tokens right), `ctc`."""
        # What is known here is not asked of the device: an update that waits for a GPU once is enough (`step.py`).
        features, frames, targets = map(torch.tensor, (batch.features, batch.frames, batch.targets))
        if self._tags:
            inputs, targets = targets[:, :-1], targets[:, 1:]
        else:
            inputs = targets.roll(1, dims=1)
            inputs[:, 0] = EOS  # the decoder starts from </s>, as in fairseq
        output = model(send(features, self._device).float(), send(frames, self._device), send(inputs, self._device))
        loss, nll, correct, count = label_smoothed_sum(output.logits, targets, self._options.label_smoothing)
        logs = {"nll": nll.detach(), "accuracy": correct.detach()}
        if output.ctc_logits is not None and self._options.ctc_weight > 0:
            spoken = torch.from_numpy(batch.target_lengths) - 1 - self._tags  # CTC does not emit </s>
            steps = self._recogniser.output_lengths(frames)
            ctc = ctc_loss_sum(output.ctc_logits, steps, send(targets, self._device), spoken)
            loss = (1 - self._options.ctc_weight) * loss + self._options.ctc_weight * ctc
            logs["ctc"] = ctc.detach()
        return LossSum(loss, count, logs)
