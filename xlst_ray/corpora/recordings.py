"""Where recordings lie, and reading them: files by URL, members of containers by the container's URL with a fragment.

`speech.tar#clip.mp3@1536+20480` is 20480 bytes of an uncompressed tar, from byte 1536 on;
`train.parquet#audio:clip.mp3@3/17` is row 17 of row group 3 of the column `audio`, a struct with a field `bytes`.
So a plan is a list of plain rows, and whoever carries it out reads what it names and nothing else of the container.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.decode import AudioError, Sound
from xlst_ray.errors import DataError

_MEMBER: Final = re.compile(
    r"(?P<file>.+)#(?:(?P<column>[^#:@]*):)?(?P<name>[^#:@]*)@"
    r"(?:(?P<start>\d+)\+(?P<size>\d+)|(?P<group>\d+)/(?P<row>\d+))"
)
_BUFFER: Final = 1 << 20  # bytes of a Parquet column that are fetched at once


def in_tar(url: str, name: str, start: int, size: int) -> str:
    """The address of a member of an uncompressed tar."""
    return f"{url}#{_quoted(name)}@{start}+{size}"


def in_parquet(url: str, column: str, name: str, group: int, row: int) -> str:
    """The address of the audio in a row of a row group, both from 0."""
    return f"{url}#{_quoted(column)}:{_quoted(name)}@{group}/{row}"


def file_of(address: str) -> str:
    """The file that holds a recording: itself or its container."""
    member = _MEMBER.fullmatch(address)
    return address if member is None else member["file"]


def name_of(address: str) -> str:
    """The recording's own file name."""
    member = _MEMBER.fullmatch(address)
    return (address if member is None else unquote(member["name"])).rpartition("/")[2]


class Recordings:
    """Opens recordings one after the other; what consecutive rows share is read, and refused, once."""

    def __init__(self) -> None:
        self._address = ""
        self._found: Sound | AudioError | None = None
        self._column = _ParquetColumn()

    def open(self, address: str) -> Sound:
        """The recording, ready to be cut.

        Raises:
            AudioError: it is not there or is no audio. A store that does not answer raises its own error.
        """
        if self._found is None or address != self._address:
            self._address = address
            try:
                self._found = Sound(self._read(address))
            except AudioError as error:
                self._found = error
        if isinstance(self._found, AudioError):
            raise self._found
        return self._found

    def _read(self, address: str) -> bytes:
        if address.startswith("espeak:"):
            from xlst_ray.corpora.demo import read_audio

            return read_audio(address)
        member = _MEMBER.fullmatch(address)
        try:
            if member is None:
                return storage.read_bytes(address)
            if member["row"] is None:
                return _read_range(member["file"], int(member["start"]), int(member["size"]))
            return self._column.read(
                member["file"], unquote(member["column"]), int(member["group"]), int(member["row"])
            )
        except AudioError:
            raise
        except DataError as error:
            reason = "unreadable" if storage.exists(file_of(address)) else "missing"
            raise AudioError(error.what, reason=reason) from None  # type: ignore[arg-type]  # one of two literals

    def close(self) -> None:
        self._found = None
        self._column.close()


def _read_range(url: str, start: int, size: int) -> bytes:
    with storage.open_input(url) as file:
        file.seek(start)
        data = bytes(file.read(size))
    if len(data) < size:
        raise AudioError(f"its container ends {size - len(data)} bytes before it does", reason="truncated")
    return data


class _ParquetColumn:
    """The audio of a row group from row to row, in whose order it is asked for: a page is in memory at a time."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._place: tuple[str, str, int] | None = None
        self._rows: Iterator[Any] = iter(())
        self._next = 0

    def read(self, url: str, column: str, group: int, row: int) -> bytes:
        if self._place != (url, column, group) or row < self._next:
            self.close()
            file = self._stack.enter_context(storage.open_parquet(url, buffer_size=_BUFFER))
            batches = file.iter_batches(1, row_groups=[group], columns=[f"{column}.bytes"])
            self._rows, self._next, self._place = iter(batches), 0, (url, column, group)
        try:
            while self._next <= row:
                batch = next(self._rows)
                self._next += 1
        except (pa.ArrowException, OSError, StopIteration) as error:
            self.close()
            raise AudioError(f"cannot be read from its row group ({error})", reason="unreadable") from None
        data = batch.column(0).field(0)[0].as_py()
        if data is None:
            raise AudioError("the row holds no bytes, only the name of a file", reason="missing")
        return bytes(data)

    def close(self) -> None:
        self._stack.close()
        self._place = None


def _quoted(name: str) -> str:
    return quote(name, safe="/ ")
