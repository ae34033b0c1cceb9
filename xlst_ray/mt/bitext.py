"""Parallel text as translators exchange it: Moses' pairs of files, and TMX (Translation Memory eXchange 1.4b).

Both are read as streams, plain or gzip-compressed (`.gz`), so that a memory of any size fits.
"""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final
from xml.etree import ElementTree

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.protocol import tidy

_XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_NATIVE_CODE: Final = frozenset({"bpt", "ept", "it", "ph", "ut", "sub"})  # markup of the original file, not its text


def read_moses(prefix: str, source: str, target: str) -> Iterator[tuple[str, str]]:
    """The line pairs of `<prefix>.<source>` and `<prefix>.<target>`, tidied; those with an empty side are left out.

    Raises:
        ConfigError: a language has no file.
        DataError: not UTF-8, or files of different lengths.
    """
    urls = []
    for language in (source, target):
        there = [url for url in (f"{prefix}.{language}", f"{prefix}.{language}.gz") if storage.exists(url)]
        if not there:
            raise ConfigError(
                f"has no file of the language {language}",
                where=f"{prefix}.{language}",
                hint="the path of kind moses is what stands before .<language> in both names",
            )
        urls.append(there[0])
    with _open(urls[0]) as left, _open(urls[1]) as right:
        number = 0
        while True:
            number += 1
            lines = left.readline(), right.readline()
            if not any(lines):
                return
            if not all(lines):
                longer, shorter = urls if lines[0] else urls[::-1]
                raise DataError(f"ends after {number - 1} lines, {longer} does not", where=shorter)
            first, second = (_decode(line, url, number) for line, url in zip(lines, urls, strict=True))
            if first and second:
                yield first, second


def read_tmx(url: str, source: str, target: str) -> Iterator[tuple[str, str]]:
    """The segment pairs of a translation memory, tidied; markup of the original file is left out.

    Regions do not count: `en-US` is English. Of several variants of a language in one unit the first is taken.

    Raises:
        ConfigError: a language does not occur.
        DataError: no TMX, or cut off.
    """
    seen: set[str] = set()
    with _open(url) as file:
        try:
            events = ElementTree.iterparse(file, events=("start", "end"))
            _, root = next(events)
            if root.tag != "tmx":
                raise DataError(f"is no translation memory: its root is {root.tag}, not tmx", where=url)
            body = root
            for event, element in events:
                if event == "start" and element.tag == "body":
                    body = element
                if event == "end" and element.tag == "tu":
                    variants = _variants(element)
                    seen.update(variants)
                    pair = variants.get(source.partition("-")[0], ""), variants.get(target.partition("-")[0], "")
                    if all(pair):
                        yield pair
                    body.clear()  # else all units gather here
        except (ElementTree.ParseError, EOFError, gzip.BadGzipFile, StopIteration) as error:
            raise DataError(f"cannot be read as TMX ({error or 'it is empty'})", where=url) from None
    for language in (source, target):
        if language.partition("-")[0] not in seen:
            raise ConfigError(
                f"has no segments in {language}", where=url, hint=f"it has {', '.join(sorted(seen)) or 'no language'}"
            )


def _variants(unit: ElementTree.Element) -> dict[str, str]:
    """The text of a unit's segments by language, regions left out."""
    found: dict[str, str] = {}
    for variant in unit.iter("tuv"):
        language = (variant.get(_XML_LANG) or variant.get("lang") or "").casefold().partition("-")[0].partition("_")[0]
        segment = variant.find("seg")
        if language and segment is not None:
            found.setdefault(language, tidy("".join(_text(segment))))
    return found


def _text(element: ElementTree.Element) -> Iterator[str]:
    if element.tag not in _NATIVE_CODE:
        yield element.text or ""
        for child in element:
            yield from _text(child)
            yield child.tail or ""


def _decode(line: bytes, url: str, number: int) -> str:
    try:
        return tidy(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 (byte {error.start})", where=f"{url}, line {number}") from None


@contextmanager
def _open(url: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with storage.open_input(url) as file:
        buffered = io.BufferedReader(file)
        if url.endswith(".gz"):
            with gzip.open(buffered) as unpacked:
                yield unpacked
        else:
            yield buffered
