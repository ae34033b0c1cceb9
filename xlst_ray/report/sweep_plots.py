"""Plots of a sweep: parallel coordinates, importance, learning curves, cost."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xlst_ray.report.plots import COLOURS, INK, svg
from xlst_ray.sweep.journal import Record
from xlst_ray.sweep.results import ranked
from xlst_ray.sweep.space import canonical

_BEST, _STOPPED, _OTHER = COLOURS[0], COLOURS[6], COLOURS[5]
_LOG_FROM: Final = 8.0  # a key whose values span such a factor is shown by its logarithm


def plot_coordinates(records: Sequence[Record], standing: Mapping[str, Any]) -> str:
    """A line a trial through its value of each key, one above the other, down to its place."""
    order = [record for record in ranked(records) if record.state in ("finished", "stopped")]
    names = [*standing, "place"]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, (key, value) in enumerate(standing.items()):
            places, labels = _axis([record.assignment.get(key, value) for record in order])
            for turn, place in enumerate(places):
                paths[turn].append(place)
            axes.plot((0, 1), (row, row), color=INK, linewidth=0.8)
            for place, label in labels:
                axes.annotate(label, (place, row), (0, 5), textcoords="offset points", ha="center", fontsize=9)
        for turn in range(len(order)):
            paths[turn].append(turn / max(1, len(order) - 1))
        axes.plot((0, 1), (len(standing),) * 2, color=INK, linewidth=0.8)
        for place, label in ((0, "best"), (1, "last")):
            axes.annotate(label, (place, len(standing)), (0, -14), textcoords="offset points", ha="center", fontsize=9)
        for turn, record in reversed(list(enumerate(order))):
            colour = _BEST if record.state == "finished" else _STOPPED
            width, alpha = (2.6, 1.0) if turn == 0 else (1.0, 0.55)
            axes.plot(paths[turn], range(len(names)), color=colour, linewidth=width, alpha=alpha)
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.set_ylim(len(names) - 0.6, -0.5)
        axes.set_xlim(-0.06, 1.06)
        axes.set_xticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)

    paths: list[list[float]] = [[] for _ in order]
    return svg(draw, height=0.8 + 0.75 * len(names), label="parallel coordinates of the trials")


def _short(key: str) -> str:
    return key.removeprefix("finetune.").replace(".", ".\n", 1) if len(key) > 24 else key.removeprefix("finetune.")


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """The place of each value between 0 and 1, and the labels of the axis with theirs."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numbers and len(set(values)) > 1:
        low, high = min(values), max(values)
        logarithm = low > 0 and high / low >= _LOG_FROM
        scaled = np.log(np.array(values, float)) if logarithm else np.array(values, float)
        places = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        return places.tolist(), [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    names = sorted({canonical({"": value}): value for value in values}.items())
    order = [text for text, _ in names]
    place = {text: (0.5 if len(order) == 1 else turn / (len(order) - 1)) for turn, text in enumerate(order)}
    return [place[canonical({"": value})] for value in values], [
        (place[text], _none_or(value)) for text, value in names
    ]


def _none_or(value: Any) -> str:
    return "none" if value is None else str(value)


def plot_importance(weights: Mapping[str, float]) -> str:
    """A bar a key."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(range(len(weights)), list(weights.values()), height=0.6, color=_BEST, alpha=0.7)
        axes.set_yticks(range(len(weights)), [_short(key) for key in weights])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the variance of ranks")

    return svg(draw, height=1.0 + 0.5 * len(weights), label="importance of each key")


def plot_trials(records: Sequence[Record], best: int) -> str:
    """Accuracy of the development set by update: a line a trial, one that was stopped ending in a cross."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for record in sorted(records, key=lambda record: record.number == best):
            points = [(entry["update"], 100 * entry["accuracy"]) for entry in record.validations]
            if points:
                style = {"color": _BEST, "linewidth": 2.4} if record.number == best else _style(record)
                axes.plot(*zip(*points, strict=True), **style)
                if record.state == "stopped":
                    axes.plot(*points[-1], marker="x", markersize=5, color=_STOPPED)
        axes.set_xlabel("updates")
        axes.set_ylabel("dev accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    return svg(draw, height=3.4, label="learning curves of the trials")


def _style(record: Record) -> dict[str, Any]:
    return {"color": _OTHER if record.state == "finished" else _STOPPED, "linewidth": 1.0, "alpha": 0.8}


def plot_cost(records: Sequence[Record], best: int) -> str:
    """Updates by trial: trained, and spared by stopping."""
    order = sorted(records, key=lambda record: record.number)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        numbers = [record.number for record in order]
        axes.bar(numbers, [record.updates for record in order], width=0.75, color=_STOPPED, alpha=0.25)
        colours = [_BEST if record.number == best else _OTHER for record in order]
        axes.bar(numbers, [record.trained for record in order], width=0.75, color=colours)
        axes.set_xlabel("trial")
        axes.set_ylabel("updates")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))

    return svg(draw, height=2.8, label="updates by trial")
