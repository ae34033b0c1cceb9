"""The order of trials, what each key explains of it, and what the trials cost."""

from typing import Any

import numpy as np
import pytest

from xlst_ray.sweep.journal import Journal, Record, State
from xlst_ray.sweep.results import cost, front, importance, ranked
from xlst_ray.sweep.space import canonical


def record(number: int, state: State = "finished", trained: int = 10, accuracy: float = 0.5, **more: Any) -> Record:
    assignment = more.pop("assignment", {"x": number})
    outcome = (
        {"wer": more.pop("wer", 50.0), "training_seconds": more.pop("seconds", 1.0)} if state == "finished" else {}
    )
    validations = ({"update": float(trained), "accuracy": accuracy},)
    return Record(number, assignment, 10, state, validations, seconds=2.0, outcome=outcome)


def test_finished_before_stopped_before_failed() -> None:
    records = [
        record(0, wer=30.0),
        record(1, "failed"),
        record(2, "stopped", trained=3, accuracy=0.9),
        record(3, wer=20.0),
        record(4, "stopped", trained=6, accuracy=0.4),
        record(5, "stopped", trained=6, accuracy=0.6),
    ]
    assert [found.number for found in ranked(records)] == [3, 0, 5, 4, 2, 1]


def test_the_front_is_what_no_other_beats_in_both() -> None:
    figures = [(30.0, 1.0), (20.0, 5.0), (25.0, 5.0), (25.0, 3.0), (35.0, 2.0), (20.0, 6.0)]
    records = [record(number, wer=wer, seconds=seconds) for number, (wer, seconds) in enumerate(figures)]
    assert front([*records, record(9, "stopped")]) == [1, 3, 0]


def test_the_cost_leaves_the_configuration_as_it_stands_out() -> None:
    found = cost([record(0), record(1), record(2, "stopped", trained=3)])
    assert (found.updates, found.whole, found.share, found.seconds) == (13, 20, 0.65, 4.0)


def test_importance_finds_the_key_that_matters_even_with_its_best_in_the_middle() -> None:
    generator = np.random.default_rng(5)
    records = []
    for number in range(45):
        lr, noise, kind = generator.uniform(0, 1), generator.uniform(0, 1), str(generator.choice(["a", "b"]))
        assignment = {"lr": lr, "noise": noise, "kind": kind}
        records.append(record(number, wer=10 + 40 * abs(lr - 0.5) + 0.1 * noise, assignment=assignment))
    found = importance(records, {"lr": 0.5, "noise": 0.5, "kind": "a"})
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.4  # 2 / 3 in the limit
    assert found["noise"] < 0.15
    assert found["kind"] < 0.15


def test_a_key_that_decides_alone_explains_all_but_the_ties() -> None:
    """Against the formula by hand: ranks 0 1 | 2 3, within 0.5 + 0.5, total 5; 1 - (1 / 2) / (5 / 3) = 0.7."""
    records = [record(n, wer=float(n), assignment={"kind": kind}) for n, kind in enumerate(("a", "a", "b", "b"))]
    assert importance(records, {"kind": "a"})["kind"] == pytest.approx(0.7)
    assert importance(records[:2], {"kind": "a"})["kind"] == 0.0  # no difference in it


def test_a_key_that_did_not_count_is_as_it_stands() -> None:
    records = [record(n, wer=float(n), assignment={"k": 1} if n < 2 else {}) for n in range(4)]
    assert importance(records, {"k": 2})["k"] == pytest.approx(0.7)
    assert importance(records, {"k": 1})["k"] == 0.0


def test_a_journal_gives_back_what_was_written_last(tmp_path: Any) -> None:
    journal = Journal(str(tmp_path / "trials"))
    assert journal.read() == {}
    first, second = Record(2, {"x": 0.1, "y": [1, 2]}, 10), record(1)
    for written in (first, second):
        journal.write(written)
    heard = first.heard({"update": 3.0, "accuracy": 0.25}, 1.5).heard({"update": 3.0, "accuracy": 0.25}, 0.5)
    journal.write(heard)
    assert journal.read() == {canonical(second.assignment): second, canonical(first.assignment): heard}
    assert (heard.trained, heard.seconds, len(heard.validations)) == (3, 2.0, 1)
