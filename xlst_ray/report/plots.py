"""Plots as SVG that stands inside a page: scalable, without links, its ink the colour of the page's text."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xlst_ray.report.content import CurvePoint
from xlst_ray.report.results import Group

# Okabe & Ito's palette: told apart by the colour-blind, and legible on white and on black.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")
INK: Final = "#010203"  # stands for the page's text colour until the SVG is written
_WIDTH: Final = 6.4  # inches; small enough that its letters are read on a phone

_STYLE: Final = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def plot_wer(groups: Sequence[Group]) -> str:
    """A bar an arm: the mean WER over seeds, and each seed as a dot with its interval."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, group in enumerate(groups):
            axes.barh(place, group.wer.mean, height=0.62, color=COLOURS[place % len(COLOURS)], alpha=0.55)
            count = len(group.results)
            for turn, result in enumerate(group.results):
                height = place + (turn - (count - 1) / 2) * min(0.2, 0.5 / count)
                axes.plot(result.wer_interval, (height, height), color=INK, linewidth=1.2)
                axes.plot(result.wer, height, marker="o", markersize=4, color=INK)
        axes.set_yticks(range(len(groups)), [f"{group.label}\n{group.wer.mean:.1f} %" for group in groups])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("WER, %")
        axes.tick_params(axis="y", length=0)

    return svg(draw, height=0.9 + 0.62 * len(groups), label=f"WER by arm, {groups[0].test}")


def plot_curves(curves: Mapping[str, Sequence[CurvePoint]]) -> str:
    """Loss of training (dashed) and development (solid) by update, and below it the accuracy where there is one."""
    with_accuracy = any(point.dev_accuracy is not None for points in curves.values() for point in points)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2 if with_accuracy else 1, 1, sharex=True, squeeze=False)[:, 0]
        for (name, points), colour in zip(curves.items(), cycle(len(curves)), strict=True):
            _line(panels[0], points, "train_loss", color=colour, linewidth=1, linestyle="--")
            _line(panels[0], points, "dev_loss", color=colour, linewidth=1.8)
            if with_accuracy:
                _line(panels[1], points, "dev_accuracy", color=colour, linewidth=1.8)
            panels[0].plot([], [], color=colour, linewidth=1.8, label=name)
        panels[0].set_ylabel("loss per token")
        if with_accuracy:
            panels[1].set_ylabel("dev accuracy")
        panels[-1].set_xlabel("updates")
        panels[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[0].legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, fontsize=10)

    legend = 0.24 * ((len(curves) + 1) // 2)
    return svg(draw, height=(5.2 if with_accuracy else 3.2) + legend, label="learning curves")


def plot_histogram(edges: Sequence[int], counts: Mapping[str, Sequence[int]], unit: str) -> str:
    """A step line for each named set: its share in every bin, which is as wide as the edges lie apart."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (name, values), colour in zip(counts.items(), cycle(len(counts)), strict=True):
            shares = [100 * value / max(sum(values), 1) for value in values]
            axes.stairs(shares, [*edges, 2 * edges[-1] - edges[-2]], color=colour, linewidth=1.8, label=name)
        axes.set_xlabel(unit)
        axes.set_ylabel("%")
        axes.set_ylim(bottom=0)
        axes.legend()

    return svg(draw, height=3.0, label=f"histogram: {unit}")


def plot_histograms(
    edges: Mapping[str, Sequence[float]], counts: Mapping[str, Sequence[int]], lines: Mapping[str, float | None]
) -> str:
    """A small histogram for each name, with a line at its threshold where there is one."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots((len(counts) + 1) // 2, 2, squeeze=False).flat
        for axes, (name, values) in zip(panels, counts.items(), strict=False):
            axes.stairs(values, edges[name], fill=True, color=COLOURS[0], alpha=0.55)
            line = lines.get(name)
            if line is not None and line <= edges[name][-1]:
                axes.axvline(line, color=COLOURS[1], linewidth=1.4)
            axes.set_title(name, fontsize=10)
            axes.set_yticks([])
            axes.spines.left.set_visible(False)
        for axes in list(panels)[len(counts) :]:
            axes.remove()

    return svg(draw, height=1.5 * ((len(counts) + 1) // 2), label="scores of the labels")


def _line(axes: Any, points: Sequence[CurvePoint], value: str, **style: Any) -> None:
    """A line through the points that have the value; a marker where one point makes no line."""
    known = [(point.update, getattr(point, value)) for point in points if getattr(point, value) is not None]
    if known:
        axes.plot(*zip(*known, strict=True), marker="o" if len(known) == 1 else None, markersize=4, **style)


def cycle(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def svg(draw: Callable[[Figure], None], *, height: float, label: str) -> str:
    """The drawing as an <svg> element; its label is read aloud, and keeps the ids of two plots on a page apart."""
    with rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").strip()
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
