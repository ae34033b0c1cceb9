"""The page and the terminal's table of a sweep: what they say follows from the records."""

import re

from xlst_ray.recipe.results import render
from xlst_ray.report.sweep import headline, render_sweep, trial_table
from xlst_ray.score.selection import Selection
from xlst_ray.sweep.journal import Record, State
from xlst_ray.sweep.results import SweepResults, TestScore

KEYS = {"finetune.train.lr": 1e-3, "start": "direct", "finetune.transfer.freeze": {}}


def record(number: int, state: State, trained: int, wer: float = 0.0, **assignment: object) -> Record:
    validations = tuple(
        {"update": float(u), "accuracy": 0.5 + 0.01 * u + 0.02 * number} for u in range(2, trained + 1, 2)
    )
    outcome = {"wer": wer, "training_seconds": 9.0} if state == "finished" else {}
    error = "the loss is no number <b>" if state == "failed" else ""
    return Record(number, assignment, 10, state, validations, 3.0, outcome, error)


RECORDS = (
    record(0, "finished", 10, 30.0),
    record(1, "stopped", 4, **{"finetune.train.lr": 1e-4, "start": "st-mt-lm"}),
    record(2, "finished", 10, 24.0, **{"finetune.train.lr": 2.5e-3, "start": "st-mt-lm"}),
    record(3, "failed", 0, **{"finetune.train.lr": 0.5, "finetune.transfer.freeze": {"encoder.*": 5}}),
    record(4, "running", 2, **{"finetune.train.lr": 3e-3}),
)


def results(best: int = 2) -> SweepResults:
    tests = {0: TestScore(32.0, (30.0, 34.0), 9.0), 2: TestScore(28.0, (26.0, 30.0), 8.0)}
    return SweepResults(
        name="sweep <1>",
        source="en",
        target="fi",
        start="direct",
        records=RECORDS,
        standing=KEYS,
        objectives=("wer",),
        best=best,
        tests=tests,
        p=0.012,
        selection=Selection(apparent=24.0, corrected=25.25, systems=2, blocks="14 groups"),
        rule="lower case",
        confidence=0.95,
    )


def test_the_headline_says_what_was_gained_and_what_it_cost() -> None:
    said = headline(results())
    assert "Trial 2 reaches 28.0 % WER on the test set, 12.5 % fewer errors than the configuration as it stands" in said
    assert "(32.0 %; p = 0.012)" in said
    assert "4 trials trained 16 updates, 40 % of what all to their end would" in said
    assert "no trial beat the configuration as it stands, which has 32.0 % WER" in headline(results(best=0))


def test_the_page_tells_of_every_trial_and_escapes() -> None:
    page = render_sweep(results(), "train: {lr: 0.0025}\n# <best>")
    assert "sweep &lt;1&gt;" in page
    assert "# &lt;best&gt;" in page
    assert "no number &lt;b&gt;" in page
    for number in range(5):
        assert f'<td class="text">{number}</td>' in page
    assert page.count("<svg") == 4
    assert "1.25 points may be selection" in page
    assert "src=" not in page
    assert re.search(r"<td>24\.00</td><td>28\.00</td><td>26\.0–30\.0</td>", page)


def test_the_terminal_shows_the_best_first_and_those_at_work() -> None:
    lines = render(trial_table(RECORDS, list(KEYS))).splitlines()
    numbers = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert numbers == ["2", "0", "1", "3", "4"]
    shown = "\n".join(lines)
    assert "24.00" in shown
    assert "lr=0.0025" in shown
    assert "as it stands" in shown
