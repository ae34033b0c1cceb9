from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xlst_ray.batches.position import Position
from xlst_ray.errors import TrainingError
from xlst_ray.mt.lm import LMOptions, build_lm, train_tokenizer
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.mt.lm_task import IGNORE, LMBatch, LMTask
from xlst_ray.train.task import Task

PAIRS = [(f"věta {'dlouhá ' * (number % 5)}{number}", f"zin {'lange ' * (number % 3)}{number}") for number in range(60)]
OPTIONS = LMOptions(dim=16, layers=1, heads=2, ffn=32, vocabulary=320, dropout=0.0, max_length=48)
TOKENIZER = train_tokenizer((side for pair in PAIRS for side in pair), OPTIONS)
MODEL = build_lm(OPTIONS, TOKENIZER, seed=0).eval()
INFO = LMInfo("cs", "nl")


def task(pairs: Sequence[tuple[str, str]] = PAIRS, **changes: int | float) -> LMTask:
    return LMTask(MODEL, TOKENIZER, INFO, pairs, PAIRS[:7], **{"max_tokens": 200, **changes})  # type: ignore[arg-type]


def rows(batch: LMBatch) -> list[tuple[int, ...]]:
    """Each row's labels that count, as the answer it teaches."""
    return [tuple(row[row != IGNORE].tolist()) for row in batch.labels]


def same(one: LMBatch, other: LMBatch) -> bool:
    return torch.equal(one.tokens, other.tokens) and torch.equal(one.labels, other.labels)


def test_it_is_a_task() -> None:
    checked: Task[LMBatch] = task()
    assert checked.frozen(1) == frozenset()


def test_the_extent_of_a_batch_is_its_tokens() -> None:
    """Prompts and answers without the last token, which is not read."""
    whole = task()
    true = 0
    for batch, _ in islice(whole.batches(Position()), whole.batches_per_epoch):
        extent = whole.extent(batch)
        assert (extent.padded, extent.seconds) == (batch.tokens.numel(), 0.0)
        true += extent.true
    lengths = [
        len(TOKENIZER(INFO.fill(source))["input_ids"]) + len(TOKENIZER(target, add_special_tokens=False)["input_ids"])
        for source, target in PAIRS
    ]
    assert true == sum(lengths)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(60, 600), st.integers(0, 3))
def test_an_epoch_sees_every_pair_once(world: int, max_tokens: int, seed: int) -> None:
    whole = task(max_tokens=max_tokens, seed=seed)
    each = whole.batches_per_epoch
    answers: Counter[tuple[int, ...]] = Counter()
    for epoch in range(2):
        batches = [batch for batch, _ in islice(whole.batches(Position(epoch)), each)]
        assert all(batch.tokens.numel() <= max_tokens for batch in batches if len(batch.tokens) > 1)
        answers.update(answer for batch in batches for answer in rows(batch))
    assert set(answers.values()) == {2}
    assert len(answers) == len({target for _, target in PAIRS})
    ranks = [task(max_tokens=max_tokens, seed=seed, ranks=[rank], world=world) for rank in range(world)]
    assert len({rank.batches_per_epoch for rank in ranks}) == 1
    taken = [[batch for batch, _ in islice(rank.batches(Position()), rank.batches_per_epoch)] for rank in ranks]
    together = [batch for turn in zip(*taken, strict=True) for batch in turn]
    plan = [batch for batch, _ in islice(whole.batches(Position()), each)]
    assert all(same(batch, plan[index % each]) for index, batch in enumerate(together))
    assert len(together) - each < world


def test_a_resume_is_a_position() -> None:
    straight = list(islice(task(world=2, ranks=[1]).batches(Position()), 30))
    for cut in (0, 3, 17):
        start = straight[cut][1]
        resumed = list(islice(task(world=2, ranks=[1]).batches(start), 30 - cut - 1))
        for (batch, after), (expected, position) in zip(resumed, straight[cut + 1 :], strict=True):
            assert same(batch, expected)
            assert after == position


def test_a_process_may_read_for_several_ranks() -> None:
    both = islice(task(world=2, ranks=[0, 1]).batches(Position()), 12)
    one, other = (islice(task(world=2, ranks=[rank]).batches(Position()), 6) for rank in range(2))
    for (batch, after), (expected, position) in zip(
        both, chain.from_iterable(zip(one, other, strict=True)), strict=True
    ):
        assert same(batch, expected)
        assert after == position


def test_epochs_and_seeds_differ() -> None:
    first = [rows(batch) for batch, _ in islice(task().batches(Position(0)), 4)]
    assert first != [rows(batch) for batch, _ in islice(task().batches(Position(1)), 4)]
    assert first != [rows(batch) for batch, _ in islice(task(seed=1).batches(Position(0)), 4)]


def test_the_loss_is_that_of_each_pair_alone() -> None:
    """Against the plain definition: one pair at a time, no padding, the answer's tokens and `</s>`."""
    trained = task(label_smoothing=0.0)
    batch, _ = next(trained.batches(Position()))
    total, count = torch.zeros(()), 0
    answers = rows(batch)
    for source, target in PAIRS:
        prompt = TOKENIZER(INFO.fill(source))["input_ids"]
        answer = (*TOKENIZER(target, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id)
        if answer in answers:
            logits: Tensor = MODEL(torch.tensor([[*prompt, *answer]])).logits[0]
            total = total + F.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(answer), reduction="sum")
            count += len(answer)
    result = trained.loss(MODEL, batch)
    assert result.count == trained.count(batch) == count
    torch.testing.assert_close(result.loss, total)
    torch.testing.assert_close(result.logs["nll"], total)
    smoothed = task(label_smoothing=0.3).loss(MODEL, batch)
    assert smoothed.loss.item() != pytest.approx(total.item())
    torch.testing.assert_close(smoothed.logs["nll"], total)


def test_lengths_come_mixed() -> None:
    mixed = task(max_tokens=60)
    widths = [batch.tokens.shape[1] for batch, _ in islice(mixed.batches(Position()), mixed.batches_per_epoch)]
    assert widths != sorted(widths)


def test_development_batches_are_dealt_to_the_ranks() -> None:
    whole = [answer for batch in task(max_tokens=60).dev_batches() for answer in rows(batch)]
    dealt = [
        answer
        for rank in range(2)
        for batch in task(max_tokens=60, ranks=[rank], world=2).dev_batches()
        for answer in rows(batch)
    ]
    assert sorted(whole) == sorted(dealt)
    assert len(whole) == 7
    assert not list(LMTask(MODEL, TOKENIZER, INFO, PAIRS).dev_batches())


def test_pairs_too_long_for_the_model_are_left_out_and_counted() -> None:
    long = ("dlouhá " * 60, "lange " * 60)
    assert task([*PAIRS, long]).dropped == 1
    with pytest.raises(TrainingError, match="none of 1 sentence pairs has at most 48 tokens"):
        task([long])
    with pytest.raises(TrainingError, match="none of 2 pairs to validate on has at most 48 tokens"):
        LMTask(MODEL, TOKENIZER, INFO, PAIRS, [long, long])
