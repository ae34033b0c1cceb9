import math

import numpy as np
import processes
import pytest
import tones
import torch
from processes import OPTIONS, Dealt, build_model, load, one_update

from xlst_ray.errors import TrainingError
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World, update_model, validate

HERE = World()
EIGHT = [[0, 1, 2], [3], [4, 5], [6, 7]]  # with different numbers of tokens, so that a mean of means is wrong


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_the_gradient_is_that_of_the_mean_over_tokens(shards: str) -> None:
    """Against autograd on each utterance alone."""
    utterances = load(shards, [[row] for row in range(8)])
    model = build_model()
    task = SpeechTask(model, Dealt(utterances, HERE), OPTIONS)
    tokens = sum(int(batch.target_lengths.sum()) for batch in utterances)
    results = [task.loss(model, batch) for batch in utterances]
    (sum(result.loss for result in results) / tokens).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    gradients, logs = one_update(load(shards, [range(8)]), HERE)
    assert_close(gradients, expected)
    assert logs["tokens"] == tokens
    assert logs["loss"] == pytest.approx(sum(result.loss.item() for result in results) / tokens, rel=1e-5)
    assert logs["grad_norm"] == pytest.approx(
        math.sqrt(sum(float(g.square().sum()) for g in expected.values())), rel=1e-4
    )
    for name in ("nll", "accuracy", "ctc"):
        assert logs[name] == pytest.approx(sum(float(result.logs[name]) for result in results) / tokens, rel=1e-5)


def test_accumulation_changes_nothing(shards: str) -> None:
    gradients, logs = one_update(load(shards, [range(8)]), HERE)
    in_four, its_logs = one_update(load(shards, EIGHT), HERE)
    assert_close(gradients, in_four)
    assert logs == pytest.approx(its_logs, rel=1e-4)


def test_the_gradient_is_clipped_and_its_norm_told_before(shards: str) -> None:
    gradients, logs = one_update(load(shards, EIGHT), HERE)
    clipped, its_logs = one_update(load(shards, EIGHT), HERE, clip_norm=0.5)
    assert its_logs["grad_norm"] == pytest.approx(logs["grad_norm"])
    assert logs["grad_norm"] > 0.5
    assert_close(clipped, {name: value * (0.5 / logs["grad_norm"]) for name, value in gradients.items()})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_ends_training_before_it_spoils_the_weights(shards: str, bad: float) -> None:
    (batch,) = load(shards, [range(3)])
    batch.features[1, 5] = bad
    model = build_model()
    before = [p.clone() for p in model.parameters()]
    task = SpeechTask(model, Dealt([batch], HERE), OPTIONS)
    with pytest.raises(TrainingError, match=r"gradient is not finite \(loss nan\)"):
        update_model(task, model, torch.optim.SGD(model.parameters(), lr=1.0), [batch], HERE, 10.0)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_validation_is_the_mean_over_tokens_without_dropout(shards: str) -> None:
    model = build_model(dropout=0.3).train()
    source = tones.source(shards, processes.BatchOptions(max_utterances=3))
    task = SpeechTask(model, source, OPTIONS)
    scores = validate(task, HERE)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    results = [task.loss(model, batch) for batch in load(shards, [[row] for row in range(8)])]
    tokens = sum(result.count for result in results)
    assert set(scores) == {"loss", "nll", "accuracy", "ctc"}
    assert scores["loss"] == pytest.approx(sum(result.loss.item() for result in results) / tokens, rel=1e-5)
    for name in ("nll", "accuracy", "ctc"):
        assert scores[name] == pytest.approx(sum(float(result.logs[name]) for result in results) / tokens, rel=1e-5)
    assert validate(SpeechTask(model, Dealt([], HERE), OPTIONS), HERE) == {}, "no development set"
