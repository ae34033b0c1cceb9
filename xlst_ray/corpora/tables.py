"""Index files, a line at a time: UTF-8 lines, tab-separated columns, files that go line by line with each other."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from xlst_ray import storage
from xlst_ray.errors import DataError


def read_lines(url: str, *, blank: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1, a few in memory at a time; `.gz` is unpacked on the way.

    Bytes that are not UTF-8 come as lone surrogates, which `corpus.understand` refuses row by row.

    Args:
        blank: blank lines too.

    Raises:
        DataError: no such file, or its compression is damaged.
    """
    with storage.open_input(url) as file:
        lines = gzip.GzipFile(fileobj=file) if url.endswith(".gz") else io.BufferedReader(file)
        try:
            for row, line in enumerate(lines, 1):
                text = line.decode("utf-8-sig" if row == 1 else "utf-8", "surrogateescape").rstrip("\r\n")
                if blank or text.strip():
                    yield row, text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"cannot be unpacked ({error})", where=url, hint="is it whole? Fetch it again") from None


def place(url: str, row: int) -> str:
    """Where a row stands, for messages."""
    return f"{url}, row {row}"


class Columns:
    """The header of a table with a delimiter and without quoting: in such files quotation marks are text."""

    def __init__(self, url: str, needed: Sequence[str], hint: str, delimiter: str = "\t") -> None:
        """Read the header.

        Raises:
            DataError: no such file, or a needed column is missing.
        """
        self._url, self._delimiter = url, delimiter
        self.names = next(read_lines(url), (1, ""))[1].split(delimiter)
        if missing := [name for name in needed if name not in self.names]:
            raise DataError(
                f"has no column {', '.join(missing)}; it has {', '.join(self.names)}", where=place(url, 1), hint=hint
            )
        self._places = [self.names.index(name) for name in needed]

    def rows(self) -> Iterator[tuple[str, str]]:
        """The place and the line of each row below the header."""
        lines = read_lines(self._url)
        next(lines)
        return ((place(self._url, row), line) for row, line in lines)

    def fits(self, line: str) -> bool:
        """Whether a line has as many columns as the header."""
        return line.count(self._delimiter) == len(self.names) - 1

    def of(self, line: str) -> list[str]:
        """The needed columns of a line. Raises `DataError` where it has another number of columns than the header."""
        values = line.split(self._delimiter)
        if not self.fits(line):
            raise DataError(f"has {len(values)} columns where the header has {len(self.names)}")
        return [values[index] for index in self._places]


def read_together(urls: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The lines of files of which line n belongs to line n of the others, with their place in the first.

    Raises:
        DataError: one is missing, or shorter than another.
    """
    for lines in zip_longest(*(read_lines(url, blank=True) for url in urls)):
        ended = [url for url, line in zip(urls, lines, strict=True) if line is None]
        if ended:
            raise DataError(
                f"has fewer lines than {next(url for url in urls if url not in ended)}",
                where=ended[0],
                hint="line n of each file says the same: fetch the corpus again, or compare with `wc -l`",
            )
        yield place(urls[0], lines[0][0]), tuple(line for _, line in lines)
