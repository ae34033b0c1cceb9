"""The protocol of a corpus, and what readers of index files share: rows with their place, unique ids, hashes."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance


class Corpus(Protocol):
    """A corpus in one language: an index that names recordings. Nothing but reading."""

    def fingerprint(self) -> str:
        """A hash of the index's content, of the recordings' sizes and of the reader's version."""
        ...

    def splits(self) -> tuple[str, ...]:
        """Those of `train`, `dev` and `test` that the corpus has, in this order. Raises `DataError` where none."""
        ...

    def utterances(self, split: str) -> Iterator[Utterance]:
        """The rows of a split in the corpus' order, lazily, with ids unique in the split.

        A missing recording is not found here but when it is decoded.

        Raises:
            DataError: a row that cannot be understood, with file and row.
        """
        ...


def read_lines(url: str) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, with their numbers from 1, a few in memory at a time.

    Raises:
        DataError: no such file, or a line that is not UTF-8.
    """
    with storage.open_input(url) as file:
        for row, line in enumerate(io.BufferedReader(file), 1):
            try:
                text = line.decode("utf-8-sig" if row == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"is not UTF-8 ({error.reason})", where=place(url, row)) from None
            if text.strip():
                yield row, text


def place(url: str, row: int) -> str:
    """Where a row stands, for messages."""
    return f"{url}, row {row}"


def once_each(read: Callable[[], Iterable[tuple[str, Utterance]]]) -> Iterator[Utterance]:
    """The utterances that `read` gives with their places, checked to have ids of their own.

    Keeps a number for each id instead of the ids; `read` is called again only to name the first of two equal rows.

    Raises:
        DataError: an id stands twice, with both places.
    """
    seen: set[int] = set()
    for where, utterance in read():
        key = hash(utterance.id)
        if key in seen:
            first = next(there for there, other in read() if other.id == utterance.id)
            if first != where:
                raise DataError(
                    f"the id {utterance.id!r} stands twice, first in {first}", where=where, hint="ids must be unique"
                )
        seen.add(key)
        yield utterance


def content_hash(reader: str, urls: Iterable[str], recordings: Iterable[str]) -> str:
    """16 hexadecimal digits of the content of index files, of the sizes of the recordings that they name, and of the
    reader (name and version) that reads them. Recordings are not read: other ones of equal sizes pass for the same.
    """
    digest = hashlib.sha256(reader.encode())
    for url in urls:
        with storage.open_input(url) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digest.update(b"\0")
    for size in storage.sizes(recordings):
        digest.update(f"{size} ".encode())
    return digest.hexdigest()[:16]
