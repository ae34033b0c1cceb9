"""An update in size s: ours, transformers' Speech2Text and SpeechBrain's Transformer, with the same weights."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import Row, compare
from peers import peer
from speechbrain_model import SpeechBrainModel

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.batches.batch import Batch
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.text.ids import EOS, PAD
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World, update_model

UTTERANCES, SECONDS, TOKENS, VOCABULARY = 8, 8, 40, 10_000
TOLERANCE = 1e-4
OPTIONS = TrainOptions(label_smoothing=0.0, ctc_weight=0.0)


def bench() -> list[Row]:
    rows = []
    for dropout in (0.1, 0.0):
        model, theirs = models(dropout)
        sides = {"ours": ours(model), "transformers Speech2Text": foreign(theirs)}
        speechbrain, name = peer("speechbrain", "speechbrain")
        if speechbrain is not None:
            sides[f"{name} TransformerASR"] = brain(SpeechBrainModel(models(dropout)[0]))
        allowed = TOLERANCE if dropout == 0 else 0.1  # whose masks differ
        rows += compare(
            f"train step: {UTTERANCES} x {SECONDS} s, {TOKENS} tokens, size s, dropout {dropout:g}, "
            f"losses the same to {allowed:g}",
            sides,
            amount=float(UTTERANCES * SECONDS),
            unit="audio-s",
            equal=lambda one, other, allowed=allowed: abs(one - other) < allowed,
            runs=3,
        )
    return rows


def models(dropout: float) -> tuple[S2TModel, torch.nn.Module]:
    """Two of the same weights, drawn anew at each call."""
    from transformers import Speech2TextForConditionalGeneration

    torch.manual_seed(0)
    model = S2TModel(ModelOptions(size="s", dropout=dropout, ctc=False).architecture(), VOCABULARY)
    with tempfile.TemporaryDirectory() as folder:
        save_speech2text(Path(folder), model)
        return model, Speech2TextForConditionalGeneration.from_pretrained(folder)


def batch() -> Batch:
    rng = np.random.default_rng(0)
    frames = np.full(UTTERANCES, 100 * SECONDS)
    targets = rng.integers(4, VOCABULARY, (UTTERANCES, TOKENS))
    targets[:, -1] = EOS
    features = rng.standard_normal((UTTERANCES, 100 * SECONDS, 80)).astype(np.float16)
    return Batch(tuple(map(str, range(UTTERANCES))), features, frames, targets, np.full(UTTERANCES, TOKENS))


def ours(model: S2TModel) -> Callable[[], float]:
    """An update as the training loop makes it."""
    one, task = batch(), SpeechTask(model.train(), None, OPTIONS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    return lambda: update_model(task, model, optimizer, [one], World(), OPTIONS.clip_norm)["loss"]


def foreign(model: torch.nn.Module) -> Callable[[], float]:
    one = batch()
    features = torch.from_numpy(one.features).float()
    labels = torch.from_numpy(one.targets).masked_fill(torch.from_numpy(one.targets) == PAD, -100)
    return _update(model, lambda: model(features, labels=labels).loss)


def brain(model: SpeechBrainModel) -> Callable[[], float]:
    from speechbrain.nnet.losses import nll_loss

    one = batch()
    features, targets = torch.from_numpy(one.features).float(), torch.from_numpy(one.targets)
    inputs = targets.roll(1, dims=1)
    inputs[:, 0] = EOS
    return _update(model, lambda: nll_loss(model(features, inputs), targets, torch.ones(len(targets))))


def _update(model: torch.nn.Module, loss_of: Callable[[], torch.Tensor]) -> Callable[[], float]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def work() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIONS.clip_norm)
        optimizer.step()
        return loss.item()

    return work
