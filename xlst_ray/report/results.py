"""The result of an experiment: a row an arm and seed, as JSON, as a table for the terminal, and as one sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from xlst_ray.languages import language
from xlst_ray.score.significance import Spread, over_seeds

BASELINES: Final = ("direct", "direct-matched")  # the headline is against the better of the two
TRANSFER_PREFIX: Final = "st-"
MEAN: Final = "mean"  # in the column of seeds


@dataclass(frozen=True)
class ArmResult:
    """One arm with one seed on one test set.

    Attributes:
        arm: `scratch`, `direct`, `direct-matched`, `st-human`, `st-mt`, ...
        engine: the MT engine of `st-mt`; none in other arms.
        seed: of the training.
        wer, cer: percent; cer counts spaces where words are parted by spaces.
        wer_interval, cer_interval: bootstrap interval, percent.
        relative_wer_reduction: share of the WER of `direct` that is gone, 0.246 for 24.6 %: positive is better than
            direct. None where there is no `direct`, and for itself.
        p_vs_direct, p_vs_scratch: two-sided paired bootstrap; none where there is nothing to compare with.
        test: name of the test set.
        utterances: in the test set.
        seconds: wall time of the arm's training.
        blocks: what the bootstrap resampled (`14 groups`).
        rule: how text was normalised before counting (`xlst_ray.text.normalise.rule_name`).
        ctc_wer: WER of the CTC head alone, greedy, percent; none without such a head.
    """

    arm: str
    engine: str | None
    seed: int
    wer: float
    wer_interval: tuple[float, float]
    cer: float
    cer_interval: tuple[float, float]
    relative_wer_reduction: float | None
    p_vs_direct: float | None
    p_vs_scratch: float | None
    test: str
    utterances: int
    seconds: float
    blocks: str
    rule: str
    ctc_wer: float | None = None

    @property
    def label(self) -> str:
        """The arm, and its engine where it has one: `st-mt (trained-lm)`."""
        return self.arm if self.engine is None else f"{self.arm} ({self.engine})"


@dataclass(frozen=True)
class Group:
    """The seeds of one arm on one test set."""

    label: str
    test: str
    results: tuple[ArmResult, ...]

    @property
    def wer(self) -> Spread:
        return over_seeds([result.wer for result in self.results])

    @property
    def cer(self) -> Spread:
        return over_seeds([result.cer for result in self.results])


@dataclass(frozen=True)
class Results:
    """An experiment: the languages by code, and a row for each arm, engine, seed and test set."""

    name: str
    source: str
    target: str
    arms: tuple[ArmResult, ...]
    confidence: float = 0.95

    def to_json(self) -> dict[str, Any]:
        """What `results.json` holds. WER, CER and intervals in percent; the relative reduction is a share."""
        return asdict(self)

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(result.test for result in self.arms))

    def groups(self, test: str) -> tuple[Group, ...]:
        """The arms on a test set in order of appearance, each with all its seeds."""
        labels = list(dict.fromkeys(result.label for result in self.arms))
        mine = sorted((r for r in self.arms if r.test == test), key=lambda result: labels.index(result.label))
        return tuple(Group(label, test, tuple(found)) for label, found in groupby(mine, key=lambda r: r.label))


def relative_reduction(wer: float, baseline: float) -> float | None:
    """The share of the baseline's WER that is gone; none where the baseline makes no error."""
    return (baseline - wer) / baseline if baseline else None


def header(results: Results) -> tuple[str, ...]:
    """The columns of `rows`."""
    interval = f"{100 * results.confidence:g}\u00a0% interval"
    return ("arm", "seed", "WER", interval, "CER", "CTC WER", "vs direct", "p", "p vs scratch")


def rows(results: Results, test: str) -> Iterator[tuple[str, ...]]:
    """Cells for a test set: a row a seed, and one of the mean where an arm has several, ± deviation as its interval."""
    for group in results.groups(test):
        yield from map(_row, group.results)
        if len(group.results) > 1:
            yield _mean_row(group)


def table(results: Results) -> Table:
    """The table by arm for the terminal, one section a test set, with the rule of counting below.

    It fits 80 columns where arms have ordinary names; figures are never cut.
    """
    shown = Table(
        title=f"{results.name}: WER and CER in percent",
        caption=caption(results),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    several = len(results.tests) > 1
    names = (*(("test",) if several else ()), *header(results))
    for name in names:
        text = name in ("test", "arm")
        shown.add_column(
            name.replace(" ", "\n"), justify="left" if text else "right", no_wrap=not text, overflow="fold"
        )
    for test in results.tests:
        for row in rows(results, test):
            cells = (test, *row) if several else row
            shown.add_row(*cells, style="bold" if is_mean(row) else None)
        shown.add_section()
    return shown


def is_mean(row: Sequence[str]) -> bool:
    """Whether a row of `rows` is the mean over seeds."""
    return row[1] == MEAN


def caption(results: Results) -> str:
    """How the figures were counted."""
    rules = dict.fromkeys(f"{r.test}: {r.utterances} utterances; {r.rule}" for r in results.arms)
    blocks = ", ".join(dict.fromkeys(result.blocks for result in results.arms))
    unit = "" if language(results.target).spaces else " WER is counted on characters: the language writes no spaces."
    return (
        f"{'. '.join(rules)}. Intervals and two-sided p-values: paired bootstrap over {blocks}. "
        f"vs direct: WER reduction relative to direct transfer, positive is better; p belongs to it.{unit}"
    )


def headline(results: Results) -> str:
    """The outcome in a sentence or two: the best ST arm against the better of the direct arms, whatever it says."""
    return " ".join(_headline(results, test) for test in results.tests)


def _headline(results: Results, test: str) -> str:
    groups = results.groups(test)
    ours = [group for group in groups if group.results[0].arm.startswith(TRANSFER_PREFIX)]
    baselines = [group for group in groups if group.results[0].arm in BASELINES]
    best = _best(ours or groups)
    reached = f"On {test}, {best.label} reaches {best.wer.mean:.1f} % WER"
    if not ours or not baselines:
        return f"{reached}{_over(best)}."
    baseline = _best(baselines)
    gain = relative_reduction(best.wer.mean, baseline.wer.mean)
    change = "" if gain is None else f", {100 * abs(gain):.1f} % {'fewer' if gain >= 0 else 'more'} errors than"
    compared = f"{change or ', beside'} {baseline.label} ({baseline.wer.mean:.1f} %)"
    return f"{reached}{compared}{_over(best)}{_certainty(best, baseline)}."


def _best(groups: Sequence[Group]) -> Group:
    return min(groups, key=lambda group: group.wer.mean)


def _over(group: Group) -> str:
    return f", mean of {len(group.results)} seeds" if len(group.results) > 1 else ""


def _certainty(best: Group, baseline: Group) -> str:
    """p is known against `direct` alone; over seeds the weakest one is told."""
    found = [result.p_vs_direct for result in best.results if result.p_vs_direct is not None]
    if baseline.label != BASELINES[0] or not found:
        return ""
    weakest = "largest " if len(found) > 1 else ""
    return f"; {weakest}p {show_p(max(found), relation=True)}"


def _row(result: ArmResult) -> tuple[str, ...]:
    return (
        result.label,
        str(result.seed),
        f"{result.wer:.1f}",
        f"{result.wer_interval[0]:.1f}–{result.wer_interval[1]:.1f}",
        f"{result.cer:.1f}",
        "" if result.ctc_wer is None else f"{result.ctc_wer:.1f}",
        _show_change(result.relative_wer_reduction),
        show_p(result.p_vs_direct),
        show_p(result.p_vs_scratch),
    )


def _mean_row(group: Group) -> tuple[str, ...]:
    ctc = [result.ctc_wer for result in group.results if result.ctc_wer is not None]
    changes = [r.relative_wer_reduction for r in group.results if r.relative_wer_reduction is not None]
    return (
        group.label,
        MEAN,
        f"{group.wer.mean:.1f}",
        f"± {group.wer.deviation:.1f}",
        f"{group.cer.mean:.1f}",
        f"{fmean(ctc):.1f}" if ctc else "",
        _show_change(fmean(changes)) if changes else "",
        "",
        "",
    )


def _show_change(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f} %".replace("-", "−")


def show_p(p: float | None, *, relation: bool = False) -> str:
    """A p-value in three decimals, `< 0.001` below that; with `= ` before it where a relation is asked for."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{'= ' if relation else ''}{p:.3f}"
