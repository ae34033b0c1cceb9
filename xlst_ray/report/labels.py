"""The page of a label set: what it holds, what its scores are, and what thresholds keep and refuse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from xlst_ray.languages import language
from xlst_ray.report.content import DataTable
from xlst_ray.report.html import document, listings, note, section, table
from xlst_ray.report.plots import plot_histograms
from xlst_ray.score.bleu import TextScore

SAMPLES = 12  # of each fate


@dataclass(frozen=True)
class LabelPage:
    """What the page tells.

    Attributes:
        source, target: language codes.
        engine: what translated, as configured.
        reasons: rows without a label by reason.
        rows: rows by what became of them: `kept`, `no label`, or the score that refused them.
        edges, bins: of the histogram of each score; the last bin holds what is above.
        thresholds: by score; none: it refuses nothing.
        samples: (id, source, translation) by what became of the row.
        score: against human translations, of `scored_pairs` rows; none where there are none.
        translation: counts of the translating itself.
    """

    source: str
    target: str
    engine: Mapping[str, Any]
    reasons: Mapping[str, int]
    rows: Mapping[str, int]
    edges: Mapping[str, Sequence[float]]
    bins: Mapping[str, Sequence[int]]
    thresholds: Mapping[str, float | None]
    samples: Mapping[str, Sequence[tuple[str, str, str]]]
    score: TextScore | None
    scored_pairs: int
    translation: Mapping[str, Any]


def render_labels(page: LabelPage) -> str:
    """The whole page; everything given is escaped."""
    direction = f"{language(page.source).name} → {language(page.target).name}"
    total = sum(page.rows.values())
    kept = page.rows.get("kept", 0)
    share = f"{100 * kept / total:.1f} %" if total else "none"
    sections = [
        section("Rows", _rows(page, total)),
        section("Against human translations", _humans(page)) if page.score else "",
        section("Scores", _histograms(page)),
        *(
            section(_title(fate), _samples(page, fate))
            for fate in sorted(page.samples, key=lambda fate: fate != "kept")
        ),
        section("Translating", listings({"engine": _lines(page.engine), "counts": _lines(page.translation)})),
    ]
    headline = f"{kept:,} of {total:,} rows ({share}) have a label that the thresholds keep."
    return document(direction, f"Labels {page.source}-{page.target}", headline, sections)


def _rows(page: LabelPage, total: int) -> str:
    body = [(fate, f"{number:,}", f"{100 * number / total:.2f} %") for fate, number in page.rows.items()]
    reasons = [(reason, f"{number:,}", f"{100 * number / total:.2f} %") for reason, number in page.reasons.items()]
    header = ("", "rows", "share")
    tables = [DataTable("Kept, refused, without a label", header, body)]
    tables += [DataTable("Why without a label", header, reasons)] if reasons else []
    text = "A row is refused by the first score in this order that is beyond its threshold: "
    return "".join(f"<h3>{escape(one.title)}</h3>{table(one.header, one.rows, 1)}" for one in tables) + note(
        text + ", ".join(page.bins)
    )


def _humans(page: LabelPage) -> str:
    if page.score is None:
        return ""
    row = (f"{page.scored_pairs:,}", f"{page.score.bleu:.1f}", f"{page.score.chrf:.1f}")
    signatures = f"sacreBLEU: {page.score.bleu_signature}; {page.score.chrf_signature}."
    return table(("rows", "BLEU", "chrF"), [row], 0) + note(f"{signatures} The first rows of shards, evenly chosen.")


def _histograms(page: LabelPage) -> str:
    figure = plot_histograms(page.edges, page.bins, page.thresholds)
    return f"<figure>{figure}</figure>{note('Line: the threshold. The last bar holds what is above, too.')}"


def _title(fate: str) -> str:
    return "Kept" if fate == "kept" else f"Refused: {fate}"


def _samples(page: LabelPage, fate: str) -> str:
    found = []
    for name, text, translation in page.samples[fate][:SAMPLES]:
        found.append(
            f'<dl class="sample"><dt>{escape(page.source)} <span class="id">{escape(name)}</span></dt>'
            f'<dd class="reference" dir="auto">{escape(text)}</dd>'
            f'<dt>{escape(page.target)}</dt><dd dir="auto">{escape(translation)}</dd></dl>'
        )
    return "".join(found)


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())
