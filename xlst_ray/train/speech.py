"""The speech task: recognition and translation are the same, speech in and target text out."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from xlst_ray.audio.fbank import FRAMES_PER_SECOND
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.position import Position
from xlst_ray.batches.source import BatchSource
from xlst_ray.model.ctc import ctc_loss_sum
from xlst_ray.model.loss import label_smoothed_sum
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import EOS
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.task import Extent, LossSum


class SpeechTask:
    """Joint CTC/attention training of an `S2TModel` (Watanabe et al. 2017): (1 - w) attention + w CTC.

    Args:
        source: this rank's batches.
        options: label smoothing and the CTC weight.
        freeze: parameter name -> first update at which it trains.
        device: where the model is.
        frames_per_second: of the features.
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
    ) -> None:
        self.model: nn.Module = model
        self._source, self._options = source, options
        self._freeze = dict(freeze or {})
        self._device, self._rate = device or torch.device("cpu"), frames_per_second

    def batches(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        return self._source.train(start)

    def dev_batches(self) -> Iterator[Batch]:
        return self._source.dev()

    def count(self, batch: Batch) -> int:
        return int(batch.target_lengths.sum())

    def extent(self, batch: Batch) -> Extent:
        utterances, longest, _ = batch.features.shape
        frames = int(batch.frames.sum())
        return Extent(frames, utterances * longest, frames / self._rate)

    def frozen(self, update: int) -> frozenset[str]:
        return frozenset(name for name, first in self._freeze.items() if update < first)

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Logs: `nll` (attention, unsmoothed), `accuracy` (teacher-forced tokens right), `ctc`."""
        features = torch.tensor(batch.features).to(self._device).float()
        frames = torch.from_numpy(batch.frames).to(self._device)
        targets = torch.from_numpy(batch.targets).to(self._device)
        inputs = targets.roll(1, dims=1)
        inputs[:, 0] = EOS  # the decoder starts from </s>, as in fairseq
        output = model(features, frames, inputs)
        loss, nll, correct, count = label_smoothed_sum(output.logits, targets, self._options.label_smoothing)
        logs = {"nll": nll.detach(), "accuracy": correct.detach()}
        if output.ctc_logits is not None and self._options.ctc_weight > 0:
            lengths = torch.from_numpy(batch.target_lengths).to(self._device) - 1  # CTC does not emit </s>
            ctc = ctc_loss_sum(output.ctc_logits, output.encoded_lengths, targets, lengths)
            loss = (1 - self._options.ctc_weight) * loss + self._options.ctc_weight * ctc
            logs["ctc"] = ctc.detach()
        return LossSum(loss, int(count), logs)
