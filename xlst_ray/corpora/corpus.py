"""What a reader gives, and what is the same for all of them: splits, limits, ids of their own, a fingerprint.

A reader knows one layout: which parts a corpus has, and the rows of a part, one at a time. A row that it cannot
understand is a row too, with its reason: it is counted and ends in a shard's `rejected` file. What is wrong with a
whole file (a column is missing, two files are out of step) is a `DataError`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from xlst_ray import storage
from xlst_ray.audio.decode import decoder_of
from xlst_ray.corpora.recordings import file_of, name_of
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS, Utterance

IndexReason = Literal["malformed", "duplicate-id"]

_CHUNK: Final = 1 << 15  # rows whose ids are compared at once


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a corpus' index: the utterance that it is, or why it is none.

    Attributes:
        where: file and row.
        utterance: none where the row cannot be used.
        reason, detail: why, then.
    """

    where: str
    utterance: Utterance | None
    reason: IndexReason = "malformed"
    detail: str = ""


class Reader(Protocol):
    """The layout of a corpus.

    Attributes:
        version: name and number of what is read how; the number rises when the same files give other rows.
        parts: the corpus' own names of our splits; several with `+` between them.
        layout: what `path` must be, for messages.
    """

    @property
    def version(self) -> str: ...
    @property
    def parts(self) -> Mapping[str, str]: ...
    @property
    def layout(self) -> str: ...

    def has(self, part: str) -> bool:
        """Whether there is an index of this part."""
        ...

    def rows(self, part: str, split: str) -> Iterator[Row]:
        """The rows of a part in the corpus' order, lazily, as utterances of `split`.

        A missing recording is not found here but when it is decoded.

        Raises:
            DataError: the index as a whole cannot be read.
        """
        ...


def understand(where: str, parse: Callable[..., Utterance], *arguments: Any) -> Row:
    """The row of `parse(*arguments)`; malformed where that raises `DataError`, or is not UTF-8, without id or file."""
    try:
        utterance = parse(*arguments)
        if not utterance.id:
            raise DataError("has no id")
        texts = (utterance.id, utterance.audio, utterance.text, utterance.speaker, utterance.group)
        "".join((*texts, *utterance.translations, *utterance.translations.values())).encode()
        storage.refuse_unnameable(file_of(utterance.audio))
    except DataError as error:
        return Row(where, None, detail=error.what.encode(errors="backslashreplace").decode())
    except UnicodeEncodeError:  # the bytes as Python keeps them apart, or JSON's \ud800
        return Row(where, None, detail="is not UTF-8")
    return Row(where, utterance)


@dataclass(frozen=True)
class Corpus:
    """A corpus in one language, read by its reader.

    Attributes:
        path: for messages.
        names: the corpus' own names of our splits where they are not the reader's; `+` between several.
        limit: only the first rows of each split.
    """

    reader: Reader
    path: str
    names: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None

    def splits(self) -> tuple[str, ...]:
        """Those of `train`, `dev` and `test` that the corpus has, in this order.

        Raises:
            DataError: none of them, or not all that were asked for.
        """
        return tuple(self._parts())

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split, lazily; of rows with the same id, all but the first are rejected.

        Raises:
            DataError: from the reader, or there is no row at all.
        """
        parts = (self.reader.rows(part, split) for part in self._parts()[split])
        rows = islice(chain.from_iterable(parts), self.limit)
        first = next(rows, None)
        if first is None:
            empty = " + ".join(self._parts()[split])
            hint = f"fill it, or name another part with splits={{{split}: ...}}"
            raise DataError(f"has no rows of the split {split}: {empty} is empty", where=self.path, hint=hint)
        yield from _mark_duplicates(chain([first], rows))

    def fingerprint(self) -> str:
        """16 hexadecimal digits of all that the rows say, of the sizes of their recordings and of their decoders.

        Recordings are not read: other ones of equal names and sizes pass for the same. The corpus' place is not in it.
        """
        digest = hashlib.sha256(self.reader.version.encode())
        decoders: set[str] = set()
        for size in storage.sizes(self._files(digest.update, decoders)):
            digest.update(f"{size} ".encode())
        digest.update(json.dumps(sorted(decoders)).encode())
        return digest.hexdigest()[:16]

    def _files(self, update: Callable[[bytes], None], decoders: set[str]) -> Iterator[str]:
        """The files of the recordings, while `update` sees the rows."""
        last = ""
        for split in self.splits():
            for row in self.rows(split):
                update(_content(split, row))
                if row.utterance is not None:
                    decoders.add(decoder_of(name_of(row.utterance.audio)))
                    if last != (last := file_of(row.utterance.audio)):
                        yield last

    def _parts(self) -> dict[str, list[str]]:
        wanted = {split: (self.names or self.reader.parts).get(split, "") for split in SPLITS}
        names = {split: parts.split("+") for split, parts in wanted.items() if parts}
        found = {split: [part for part in parts if self.reader.has(part)] for split, parts in names.items()}
        lacking = [part for split, parts in names.items() for part in parts if part not in found[split]]
        if not any(found.values()) or (self.names and lacking):
            what = f"has no {', no '.join(lacking)}" if storage.exists(self.path) else "no such file or folder"
            raise DataError(what, where=self.path, hint=self.reader.layout)
        return {split: parts for split, parts in found.items() if parts}


def _content(split: str, row: Row) -> bytes:
    said = row.utterance
    if said is None:
        return f"{split} {row.reason} {row.detail}\n".encode(errors="surrogateescape")
    values = (said.id, said.text, said.speaker, said.group, said.offset, said.duration, dict(said.translations))
    return json.dumps([split, said.audio.rpartition("/")[2], *values]).encode() + b"\n"


def _mark_duplicates(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, those with an earlier one's id as rejected: 8 bytes are kept of each id, whatever its length."""
    seen = np.empty(0, np.uint64)
    while chunk := list(islice(rows, _CHUNK)):
        named = [place for place, row in enumerate(chunk) if row.utterance is not None]
        keys = np.fromiter((_key(chunk[place]) for place in named), np.uint64, len(named))
        new, first = np.unique(keys, return_index=True)
        at = np.searchsorted(seen, new)
        fresh = np.ones(len(new), bool) if not len(seen) else seen[np.minimum(at, len(seen) - 1)] != new
        seen = np.insert(seen, at[fresh], new[fresh])
        firsts = {named[place] for place in first[fresh].tolist()}
        for place, row in enumerate(chunk):
            if row.utterance is None or place in firsts:
                yield row
            else:
                yield Row(row.where, None, "duplicate-id", f"an earlier row has the id {row.utterance.id!r} too")


def _key(row: Row) -> np.uint64:
    name = "" if row.utterance is None else row.utterance.id
    digest: npt.NDArray[np.uint64] = np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), np.uint64)
    return np.uint64(digest[0])
