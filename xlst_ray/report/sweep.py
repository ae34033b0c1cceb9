"""A sweep for its reader: a table in the terminal while it runs, one sentence, and one page that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from xlst_ray.languages import language
from xlst_ray.report.html import document, listings, note, section, table
from xlst_ray.report.results import relative_reduction, show_p
from xlst_ray.report.sweep_plots import plot_coordinates, plot_cost, plot_importance, plot_trials
from xlst_ray.sweep.journal import DEFAULT, Record
from xlst_ray.sweep.results import SweepResults, cost, front, importance, ranked

AS_IT_STANDS: Final = "as it stands"
_SHOWN: Final = 12  # trials in the terminal's table


def trial_table(records: Sequence[Record], keys: Sequence[str]) -> Table:
    """The best trials so far and those at work, for the terminal."""
    order = ranked(records)
    running = [record for record in order if record.state == "running"]
    ended = [record for record in order if record.state != "running"]
    left_out = max(0, len(ended) - _SHOWN)
    shown = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1),
        caption=f"{left_out} more have ended behind these" if left_out else None,
        caption_justify="left",
    )
    for name in ("trial", "state"):
        shown.add_column(name, no_wrap=True)
    for name in ("updates", "dev acc %", "dev WER", "seconds"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("values", overflow="fold")
    for record in (*ended[:_SHOWN], *running):
        shown.add_row(*_cells(record), _values(record, keys))
    return shown


def _cells(record: Record) -> tuple[str, ...]:
    return (
        str(record.number),
        record.state,
        f"{record.trained}/{record.updates}",
        f"{100 * record.accuracy:.1f}" if record.validations else "",
        "" if record.wer is None else f"{record.wer:.2f}",
        f"{record.seconds:.0f}",
    )


def _values(record: Record, keys: Sequence[str]) -> str:
    if record.number == DEFAULT:
        return AS_IT_STANDS
    names = {key: key.removeprefix("finetune.").removeprefix("train.") for key in keys}
    shown = [f"{names[key]}={show_value(record.assignment[key])}" for key in keys if key in record.assignment]
    return " ".join(shown) + (f" ({record.error.splitlines()[0]})" if record.error else "")


def show_value(value: Any) -> str:
    """A value as it stands in a configuration, numbers in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def headline(results: SweepResults) -> str:
    """The outcome in a few sentences: the winner on the test set, the configuration as it stands, and the cost."""
    before, spent = results.tests[DEFAULT], cost(results.records)
    trials = len(results.records) - 1
    price = (
        f"{trials} trials trained {spent.updates} updates, {100 * spent.share:.0f} % of what all to their end would."
    )
    if results.best == DEFAULT:
        return (
            "On the development set no trial beat the configuration as it stands, which has "
            f"{before.wer:.1f} % WER on the test set. {price}"
        )
    ours = results.tests[results.best]
    gain = relative_reduction(ours.wer, before.wer)
    change = "" if gain is None else f", {100 * abs(gain):.1f} % {'fewer' if gain >= 0 else 'more'} errors than"
    p = "" if results.p is None else f"; p {show_p(results.p, relation=True)}"
    return (
        f"Trial {results.best} reaches {ours.wer:.1f} % WER on the test set{change or ', beside'} the configuration "
        f"as it stands ({before.wer:.1f} %{p}). {price}"
    )


def render_sweep(results: SweepResults, best: str) -> str:
    """The whole page.

    Args:
        best: the winner's configuration, YAML.
    """
    direction = f"{language(results.source).name} → {language(results.target).name}, {results.start}"
    weights = importance(results.records, results.standing)
    sections = [
        section("The winner on the test set", _winner(results)),
        section("How much of it is selection", note(selection_sentence(results))),
        section("Trials", _trials(results)),
        section("Values and scores", _figure(plot_coordinates(results.records, results.standing)) + note(
            "A line a trial, from its values to its place; blue: the best, grey: stopped. Thick: the winner."
        )),
        section("Importance", _figure(plot_importance(weights)) + note(
            "Share of the variance of the ranks of trials that each key alone explains (epsilon squared). With few, "
            "it is rough; it says nothing of keys that matter only together."
        )),
        section("Learning curves", _figure(plot_trials(results.records, results.best))),
        section("Cost by trial", _figure(plot_cost(results.records, results.best)) + note(_cost_sentence(results))),
        section("Best configuration", listings({"for jobs/train.py --config": best})),
    ]  # fmt: skip
    return document(direction, f"{results.name}: sweep", headline(results), sections)


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _winner(results: SweepResults) -> str:
    interval = f"{100 * results.confidence:g}\u00a0% interval"
    by_number = {record.number: record for record in results.records}
    rows = [
        (
            AS_IT_STANDS if number == DEFAULT else f"trial {number}",
            f"{by_number[number].wer:.2f}",
            f"{score.wer:.2f}",
            f"{score.interval[0]:.1f}–{score.interval[1]:.1f}",
            f"{score.cer:.2f}",
        )
        for number, score in sorted(results.tests.items())
    ]
    scores = table(("configuration", "dev WER", "test WER", interval, "test CER"), rows, 1)
    changed = [
        (key, show_value(results.standing[key]), show_value(by_number[results.best].assignment.get(key, value)))
        for key, value in results.standing.items()
    ]
    return scores + note(results.rule) + "<br>" + table(("key", AS_IT_STANDS, f"trial {results.best}"), changed, 3)


def selection_sentence(results: SweepResults) -> str:
    """How much lower the winner's development WER is for having been the lowest of many."""
    found = results.selection
    return (
        f"Development WER of the winner: {found.apparent:.2f} %. It was the lowest of {found.systems} that came to "
        f"their end, and the lowest is partly luck: chosen anew on resampled data and scored on the rest, the winner "
        f"has {found.corrected:.2f} %, so that {max(0.0, found.optimism):.2f} points may be selection (bootstrap "
        f"bias correction over {found.blocks}; Tsamardinos et al. 2018). Trials were compared on the development set "
        "alone; the test set was seen by the winner and by the configuration as it stands, once each."
    )


def _trials(results: SweepResults) -> str:
    order = ranked(results.records)
    ends = front(results.records) if len(results.objectives) > 1 else [results.best]
    rows = [(*_cells(record), _values(record, list(results.standing))) for record in order]
    strong = [place for place, record in enumerate(order) if record.number in ends]
    what = "bold: no other is better in both WER and seconds" if len(results.objectives) > 1 else "bold: the winner"
    names = ("trial", "state", "updates", "dev acc %", "dev WER", "seconds", "values")
    return table(names, rows, 2, long_last=True, strong=strong) + note(f"Best first; {escape(what)}.")


def _cost_sentence(results: SweepResults) -> str:
    spent = cost(results.records)
    return (
        f"Updates of each trial: dark what it trained, light what it would have trained to its end. Together "
        f"{spent.updates} of {spent.whole} ({100 * spent.share:.0f} %), {spent.seconds:.0f} seconds of trials."
    )
