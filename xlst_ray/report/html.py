"""Parts of a page that stands alone, without links, scripts or files beside it. Everything given is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from xlst_ray.report.style import STYLE


def document(kicker: str, title: str, lead: str, sections: Iterable[str]) -> str:
    """A whole page: a line above the title, the title, the outcome in a sentence or two, and sections."""
    outcome = escape(lead).replace(" %", "&nbsp;%")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>'
        f'<p class="headline">{outcome}</p>{"".join(sections)}</body></html>\n'
    )


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def listings(texts: Mapping[str, str]) -> str:
    return "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in texts.items()
    )


def table(
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
