"""The report: one HTML page that stands alone, without links, scripts or files beside it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import chain

import yaml

from xlst_ray.languages import language
from xlst_ray.report.content import Content, DataTable, Sample
from xlst_ray.report.plots import plot_curves, plot_wer
from xlst_ray.report.results import Results, caption, header, headline, is_mean, rows
from xlst_ray.report.style import STYLE
from xlst_ray.score.bleu import TextScore
from xlst_ray.score.errors import Chunk, align
from xlst_ray.text.leakage import LeakageReport


def render_report(results: Results, content: Content) -> str:
    """The whole page. Sections without content are left out; everything given is escaped."""
    direction = f"{language(results.source).name} → {language(results.target).name}"
    sections = [
        *chain.from_iterable(_scores(results, test) for test in results.tests),
        _section("Learning curves", _curves(content)) if content.curves else "",
        _section("Hypotheses", _samples(content.samples, results.target)) if content.samples else "",
        _section("Data", "".join(map(_data, content.data))) if content.data else "",
        _section("Held-out sentences in training texts", _leakage(content.leakage)) if content.leakage else "",
        _section("Speech translation", _translation(content.translation)) if content.translation else "",
        _section("Transfer", _listings(content.transfers)) if content.transfers else "",
        _section("Configuration", _listings({"resolved configuration": _yaml(content)})) if content.config else "",
        _section("Versions", _table(("package", "version"), content.versions.items(), 2)) if content.versions else "",
    ]
    lead = escape(headline(results)).replace(" %", "&nbsp;%")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(results.name)}</title><style>{STYLE}</style></head><body>"
        f'<p class="kicker">{escape(direction)}</p><h1>{escape(results.name)}</h1>'
        f'<p class="headline">{lead}</p>{"".join(sections)}</body></html>\n'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _scores(results: Results, test: str) -> Iterable[str]:
    where = f" on {test}" if len(results.tests) > 1 else ""
    body = list(rows(results, test))
    table = _table(header(results), body, 1, strong=[place for place, row in enumerate(body) if is_mean(row)])
    yield _section(f"Word error rate by arm{where}", f"{table}{_note(caption(results))}")
    figure = f"<figure>{plot_wer(results.groups(test))}</figure>"
    yield _section(
        f"WER with intervals{where}",
        f"{figure}{_note('Bars: mean over seeds. Dots: each seed, with its interval.')}",
    )


def _curves(content: Content) -> str:
    note = _note("Solid: development. Dashed: training.")
    return f"<figure>{plot_curves(content.curves)}</figure>{note}"


def _samples(samples: Sequence[Sample], lang: str) -> str:
    note = _note("Marked: words that are wrong or too many. Struck out: words of the reference that are missing.")
    return "".join(_sample(sample, lang) for sample in samples) + note


def _sample(sample: Sample, lang: str) -> str:
    lines = [f'<dt>reference <span class="id">{escape(sample.id)}</span></dt>']
    lines.append(f'<dd class="reference" dir="auto">{escape(sample.reference)}</dd>')
    gap = " " if language(lang).spaces else ""
    for label, hypothesis in sample.hypotheses.items():
        marked = gap.join(_marked(chunk) for chunk in align(sample.reference, hypothesis, lang))
        lines.append(f'<dt>{escape(label)}</dt><dd dir="auto">{marked}</dd>')
    return f'<dl class="sample">{"".join(lines)}</dl>'


def _marked(chunk: Chunk) -> str:
    if chunk.kind == "equal":
        return escape(chunk.hypothesis)
    if chunk.kind == "delete":
        return f"<del>{escape(chunk.reference)}</del>"
    return f"<ins>{escape(chunk.hypothesis)}</ins>"


def _data(data: DataTable) -> str:
    note = _note(data.note) if data.note else ""
    return f"<h3>{escape(data.title)}</h3>{_table(data.header, data.rows, 1)}{note}"


def _leakage(report: LeakageReport) -> str:
    names = ("training text", "held out", "sentences", "overlapping", "share", "distinct", "of 1-2 words", "examples")
    cells = [
        (
            *(overlap.training, overlap.held_out, str(overlap.sentences), str(overlap.overlapping)),
            *(f"{100 * overlap.share:.2f} %", str(overlap.distinct), str(overlap.short)),
            "; ".join(overlap.examples),
        )
        for overlap in report.overlaps
    ]
    return _table(names, cells, 2, long_last=True)


def _translation(scores: Mapping[str, TextScore]) -> str:
    table = _table(
        ("labels from", "BLEU", "chrF"),
        [(name, f"{score.bleu:.1f}", f"{score.chrf:.1f}") for name, score in scores.items()],
        1,
    )
    signatures = dict.fromkeys(chain.from_iterable((s.bleu_signature, s.chrf_signature) for s in scores.values()))
    return table + _note(f"sacreBLEU: {'; '.join(signatures)}")


def _listings(texts: Mapping[str, str]) -> str:
    return "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in texts.items()
    )


def _yaml(content: Content) -> str:
    return yaml.safe_dump(dict(content.config), sort_keys=False, allow_unicode=True, width=100)


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(
    names: Sequence[str],
    body: Iterable[Sequence[str]],
    text_columns: int,
    *,
    long_last: bool = False,
    strong: Sequence[int] = (),
) -> str:
    """A table whose first columns are text and whose others are figures, but for a last one of long text."""
    kinds = [' class="text"' if place < text_columns else "" for place in range(len(names))]
    if long_last:
        kinds[-1] = ' class="long text"'

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    lines = []
    for number, row in enumerate(body):
        kind = ' class="strong"' if number in strong else ""
        lines.append(f"<tr{kind}>{cells('td', row)}</tr>")
    head = f"<thead><tr>{cells('th', names)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
