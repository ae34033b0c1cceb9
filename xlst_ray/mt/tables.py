"""Sentence tables: tab-separated text in UTF-8 whose first line names the language of each column."""

import codecs
from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.protocol import tidy

_MEND: Final = "mend or delete the line: no sentence is left out silently"


def read_table(url: str, source: str, target: str) -> Iterator[tuple[str, str]]:
    """The (source, target) sentences of a table, tidied; rows with an empty side are left out.

    Example: the header `cs<TAB>nl`, then `Dobrý den.<TAB>Goedendag.`; further columns are ignored.

    Raises:
        DataError: missing, not UTF-8, or a row without the columns of the header.
        ConfigError: the header has not both languages.
    """
    lines = _lines(url)
    header = [name.strip() for name in lines[0].split("\t")] if lines else []
    for language in (source, target):
        if language not in header:
            raise ConfigError(
                f"has no column of the language {language}",
                where=url,
                hint=f"its first line must name the languages, such as {source}<TAB>{target};"
                f" it reads {lines[0][:60]!r}"
                if lines
                else "the file is empty",
            )
    left, right = header.index(source), header.index(target)
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            what = f"has {len(cells)} columns, the header {len(header)}"
            raise DataError(what, where=f"{url}, line {number}", hint=_MEND)
        pair = tidy(cells[left]), tidy(cells[right])
        if all(pair):
            yield pair


def _lines(url: str) -> list[str]:
    if not storage.exists(url):
        raise DataError("no such file", where=url, hint="a path that is not absolute begins where the job was started")
    data = storage.read_bytes(url).removeprefix(codecs.BOM_UTF8)
    try:
        # Not splitlines(): U+2028 and the like are characters of a sentence here.
        return data.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, error.start - (data.rfind(b"\n", 0, error.start) + 1)
        raise DataError(f"is not UTF-8 (byte {byte})", where=f"{url}, line {line}", hint=_MEND) from None
