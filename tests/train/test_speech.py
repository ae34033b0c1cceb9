from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tones
import torch
import torch.nn.functional as F
from processes import OPTIONS, SILENT, Dealt, build_model, load

from xlst_ray.batches.batch import Batch, collate
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import START
from xlst_ray.model.beam import BeamOptions, recognise
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BLANK, EOS, SPECIALS
from xlst_ray.train.loop import fit
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World
from xlst_ray.train.task import Task


def task_of(batches: list[Batch], model: torch.nn.Module, options: TrainOptions = OPTIONS) -> SpeechTask:
    return SpeechTask(model, Dealt(batches, World()), options)  # type: ignore[arg-type]


def by_hand(model: torch.nn.Module, batch: Batch, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over the batch of attention and CTC losses by torch, each utterance alone and unpadded."""
    attention, ctc = torch.zeros(()), torch.zeros(())
    for row, (frames, length) in enumerate(zip(batch.frames, batch.target_lengths, strict=True)):
        features = torch.tensor(batch.features[row : row + 1, :frames]).float()
        target = torch.tensor(batch.targets[row, :length])
        inputs = torch.cat([torch.tensor([EOS]), target[:-1]])
        output = model(features, torch.tensor([frames]), inputs[None])
        attention = attention + F.cross_entropy(output.logits[0], target, reduction="sum", label_smoothing=smoothing)
        log_probs = output.ctc_logits.log_softmax(-1).transpose(0, 1)
        steps = torch.tensor([log_probs.shape[0]])
        wanted = torch.tensor([length - 1])
        ctc = ctc + F.ctc_loss(log_probs, target[None, :-1], steps, wanted, blank=BLANK, reduction="sum")
    return attention, ctc


@pytest.mark.parametrize(("smoothing", "weight"), [(0.0, 0.3), (0.2, 0.0), (0.1, 1.0), (0.1, 0.6)])
def test_the_loss_is_the_weighted_sum_of_both_heads(shards: str, smoothing: float, weight: float) -> None:
    (batch,) = load(shards, [range(8)])
    model = build_model()
    task: Task[Batch] = task_of([batch], model, OPTIONS.replace(label_smoothing=smoothing, ctc_weight=weight))
    result = task.loss(model, batch)
    attention, ctc = by_hand(model, batch, smoothing)
    torch.testing.assert_close(result.loss, (1 - weight) * attention + weight * ctc)
    torch.testing.assert_close(result.logs["nll"], by_hand(model, batch, 0.0)[0].detach())
    assert result.count == task.count(batch) == batch.target_lengths.sum()
    if weight > 0:
        torch.testing.assert_close(result.logs["ctc"], ctc.detach())
    else:
        assert "ctc" not in result.logs
    assert not any(value.requires_grad for value in result.logs.values())


def test_an_utterance_that_ctc_cannot_align_counts_nothing_there(shards: str) -> None:
    """Two encoder steps for six letters: no infinity, and no gradient of the CTC head."""
    (batch,) = load(shards, [[1]])
    feasible = torch.tensor(batch.features[0])
    short = collate(["short"], [feasible[:5]], [np.array(tones.encode("abcdef"))])
    both = collate(["long", "short"], [feasible, feasible[:5]], [batch.targets[0, :-1], short.targets[0, :-1]])
    model = build_model()
    losses, gradients = [], []
    for each in (batch, both, short):
        model.zero_grad()
        result = task_of([each], model).loss(model, each)
        result.loss.backward()
        losses.append(result.logs["ctc"])
        gradients.append(model.ctc.weight.grad.clone())
    assert losses[0] > 0 == losses[2]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not gradients[2].any()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_parameter_is_frozen_before_its_update() -> None:
    task = SpeechTask(build_model(), Dealt([], World()), OPTIONS, freeze={"ctc.weight": 3, "ctc.bias": 5})
    frozen = [sorted(task.frozen(update)) for update in (1, 2, 3, 4, 5, 6)]
    assert frozen == [["ctc.bias", "ctc.weight"]] * 2 + [["ctc.bias"]] * 2 + [[]] * 2


def test_the_extent_of_a_batch_is_its_frames(shards: str) -> None:
    (batch,) = load(shards, [[1, 2, 7]])
    true, padded, seconds = task_of([batch], build_model()).extent(batch)
    assert (true, padded) == (batch.frames.sum(), 3 * batch.frames.max())
    assert seconds == pytest.approx(true / 100)


def test_batches_come_with_the_position_after_them(shards: str) -> None:
    task = SpeechTask(build_model(), tones.source(shards, BatchOptions(max_utterances=8)), OPTIONS)
    straight = list(islice(task.batches(START), 12))
    assert [position.epoch for _, position in straight] == sorted(position.epoch for _, position in straight)
    for number, (_, position) in enumerate(straight[:-1], 1):
        assert next(task.batches(position))[0].ids == straight[number][0].ids


def test_a_small_model_learns_to_write_down_what_it_hears(shards: str, tmp_path: Path) -> None:
    model = build_model()
    options = TrainOptions(updates=150, lr=4e-3, warmup=20, clip_norm=1.0, validate_every=150, average=1)
    state = fit(SpeechTask(model, tones.source(shards, BatchOptions()), options), options, tmp_path, SILENT, seed=0)
    assert state.validations[-1]["accuracy"] > 0.99
    (batch,) = load(shards, [range(8)])
    features, frames = torch.tensor(batch.features).float(), torch.from_numpy(batch.frames)
    wanted = [tuple(row[: length - 1]) for row, length in zip(batch.targets, batch.target_lengths, strict=True)]
    found = recognise(model, features, frames, BeamOptions(beam=4))
    assert [one.hypotheses[0].tokens for one in found] == wanted
    assert [one.ctc for one in found] == wanted


def tagged(batch: Batch, tag: int, shift: int) -> Batch:
    """The batch in another language: each letter is the one `shift` after it, and a tag stands before the first."""
    letters = len(tones.LETTERS)
    said = np.where(
        batch.targets > EOS, len(SPECIALS) + (batch.targets - len(SPECIALS) + shift) % letters, batch.targets
    )
    return replace(
        batch,
        targets=np.concatenate([np.full((len(said), 1), tag), said], axis=1),
        target_lengths=batch.target_lengths + 1,
    )


def test_a_tag_starts_the_decoder_and_is_no_target(shards: str) -> None:
    """The loss is that of the same batch without it, but for the decoder's first input."""
    (batch,) = load(shards, [range(8)])
    model = build_model().eval()
    plain = task_of([batch], model)
    marked = tagged(batch, EOS, 0)
    task = SpeechTask(model, Dealt([marked], World()), OPTIONS, tagged=True)
    one, other = plain.loss(model, batch), task.loss(model, marked)
    assert plain.count(batch) == task.count(marked) == one.count == other.count
    torch.testing.assert_close(one.loss, other.loss)
    assert {name: value.item() for name, value in one.logs.items()} == pytest.approx(
        {name: value.item() for name, value in other.logs.items()}
    )
    marked = tagged(batch, 7, 0)
    assert task.loss(model, marked).loss.item() != pytest.approx(one.loss.item())
    torch.testing.assert_close(task.loss(model, marked).logs["ctc"], one.logs["ctc"])


def test_one_model_writes_two_languages_by_their_tags(shards: str, tmp_path: Path) -> None:
    (batch,) = load(shards, [range(8)])
    tags = [tones.VOCABULARY, tones.VOCABULARY + 1]
    torch.manual_seed(0)
    model = S2TModel(ModelOptions(size="debug", ctc=False).architecture(), tones.VOCABULARY + 2)
    batches = [tagged(batch, tags[0], 0), tagged(batch, tags[1], 1)]
    options = TrainOptions(
        updates=250, lr=4e-3, warmup=20, clip_norm=1.0, validate_every=250, average=1, accumulate=2, ctc_weight=0
    )
    names = dict(enumerate("____" + tones.LETTERS + "??"))
    task = SpeechTask(
        model, Dealt(batches, World()), options, tagged=True, decode=lambda ids: "".join(names[i] for i in ids)
    )
    fit(task, options, tmp_path, SILENT, seed=0)
    assert [sample.hypothesis for sample in task.samples()] == [sample.reference for sample in task.samples()]
    features, frames = torch.tensor(batch.features).float(), torch.from_numpy(batch.frames)
    mixed = torch.tensor(tags * 4)  # of one batch, each in its language
    found = recognise(model, features, frames, BeamOptions(beam=4), mixed)
    for row, recognition in enumerate(found):
        wanted = batches[row % 2]
        assert (
            list(recognition.hypotheses[0].tokens) == wanted.targets[row, 1 : wanted.target_lengths[row] - 1].tolist()
        )
