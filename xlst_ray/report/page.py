"""The report: one HTML page that stands alone, without links, scripts or files beside it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import chain

import yaml

from xlst_ray.languages import language
from xlst_ray.report.content import Content, DataTable, Sample
from xlst_ray.report.html import document, listings, note, section, table
from xlst_ray.report.plots import plot_curves, plot_wer
from xlst_ray.report.results import Results, caption, header, headline, is_mean, rows
from xlst_ray.score.bleu import TextScore
from xlst_ray.score.errors import Chunk, align
from xlst_ray.text.leakage import LeakageReport


def render_report(results: Results, content: Content) -> str:
    """The whole page. Sections without content are left out; everything given is escaped."""
    direction = f"{language(results.source).name} → {language(results.target).name}"
    sections = [
        *chain.from_iterable(_scores(results, test) for test in results.tests),
        section("Learning curves", _curves(content)) if content.curves else "",
        section("Hypotheses", _samples(content.samples, results.target)) if content.samples else "",
        section("Data", "".join(map(_data, content.data))) if content.data else "",
        section("Held-out sentences in training texts", _leakage(content.leakage)) if content.leakage else "",
        section("Speech translation", _translation(content.translation)) if content.translation else "",
        section("Transfer", listings(content.transfers)) if content.transfers else "",
        section("Configuration", listings({"resolved configuration": _yaml(content)})) if content.config else "",
        section("Versions", table(("package", "version"), content.versions.items(), 2)) if content.versions else "",
    ]
    return document(direction, results.name, headline(results), sections)


def _scores(results: Results, test: str) -> Iterable[str]:
    where = f" on {test}" if len(results.tests) > 1 else ""
    body = list(rows(results, test))
    scores = table(header(results), body, 1, strong=[place for place, row in enumerate(body) if is_mean(row)])
    yield section(f"Word error rate by arm{where}", f"{scores}{note(caption(results))}")
    figure = f"<figure>{plot_wer(results.groups(test))}</figure>"
    yield section(
        f"WER with intervals{where}",
        f"{figure}{note('Bars: mean over seeds. Dots: each seed, with its interval.')}",
    )


def _curves(content: Content) -> str:
    legend = note("Solid: development. Dashed: training.")
    return f"<figure>{plot_curves(content.curves)}</figure>{legend}"


def _samples(samples: Sequence[Sample], lang: str) -> str:
    legend = note("Marked: words that are wrong or too many. Struck out: words of the reference that are missing.")
    return "".join(_sample(sample, lang) for sample in samples) + legend


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
    remark = note(data.note) if data.note else ""
    return f"<h3>{escape(data.title)}</h3>{table(data.header, data.rows, 1)}{remark}"


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
    return table(names, cells, 2, long_last=True)


def _translation(scores: Mapping[str, TextScore]) -> str:
    by_engine = table(
        ("labels from", "BLEU", "chrF"),
        [(name, f"{score.bleu:.1f}", f"{score.chrf:.1f}") for name, score in scores.items()],
        1,
    )
    signatures = dict.fromkeys(chain.from_iterable((s.bleu_signature, s.chrf_signature) for s in scores.values()))
    return by_engine + note(f"sacreBLEU: {'; '.join(signatures)}")


def _yaml(content: Content) -> str:
    return yaml.safe_dump(dict(content.config), sort_keys=False, allow_unicode=True, width=100)
