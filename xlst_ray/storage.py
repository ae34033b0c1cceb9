"""Files by URL: a local folder or an object store (s3://, gs://, ...), whole or not there.

Everything between jobs passes through here, so that a workspace may be a folder on a laptop or a bucket. Paths are URLs
as strings; a plain path is the local file system. Writes are atomic: a reader never sees half a file.
"""

import errno
import fcntl
import io
import json
import os
import shutil
import string
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from xlst_ray.errors import DataError

FILES_A_REQUEST = 512
BYTES_AT_ONCE = 2**24  # of a file that is copied
_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")  # of pyarrow's file systems
_LONGEST_NAME = 255  # bytes of a file's name, on the file systems there are
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def locate(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL and the path within it."""
    if "://" not in url:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(url))
    try:
        filesystem, path = fs.FileSystem.from_uri(quote(url, safe=string.punctuation))  # names may hold spaces and é
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot be opened as a storage URL ({reason})", where=url) from None
    return filesystem, path


def refuse_unnameable(url: str) -> None:
    """Raises `DataError` where nothing can lie at a URL, whatever there is: before a store is asked for it."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in _SCHEMES:
        what = f"{scheme}:// is no storage that is read: fetch it to a folder, or to {', '.join(_SCHEMES)}"
        raise DataError(what, where=url)
    if "\0" in url or (not separator and any(len(part.encode()) > _LONGEST_NAME for part in url.split("/"))):
        raise DataError(f"no file can have the name {url[:_LONGEST_NAME]!r}", where=url[:_LONGEST_NAME])


def is_local(url: str) -> bool:
    return isinstance(locate(url)[0], fs.LocalFileSystem)


def join(url: str, *parts: str) -> str:
    """`url/part/part`, for folders and URLs alike."""
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def parent(url: str) -> str:
    """The folder that a folder or file is in; of a bucket or of `/`, which are in none, itself. Paths are absolute."""
    scheme, separator, path = url.rstrip("/").rpartition("://")
    above = path.rpartition("/")[0] or ("/" if url.startswith("/") or path.startswith("/") else path)
    return f"{scheme}{separator}{above}"


def exists(url: str) -> bool:
    """Whether there is a file or folder. Raises `DataError` where that may not be seen."""
    filesystem, path = locate(url)
    with _permitted(url):
        return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def list_files(url: str, suffix: str = "", *, recursive: bool = False) -> list[str]:
    """URLs of the files in a folder whose names end in `suffix`, sorted; empty where there is no such folder.

    Raises:
        DataError: it is a file, or may not be listed.
    """
    filesystem, path = locate(url)
    try:
        with _permitted(url):
            found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
        is_file = not found and filesystem.get_file_info(path).type == fs.FileType.File  # object stores do not mind
    except NotADirectoryError:
        is_file = True
    if is_file:
        raise DataError("is a file, not a folder", where=url)
    return sorted(
        join(url, os.path.relpath(info.path, path))
        for info in found
        if info.type == fs.FileType.File and info.base_name.endswith(suffix) and not info.base_name.startswith(".")
    )


def sizes(urls: Iterable[str]) -> Iterator[int | None]:
    """The sizes of files of one store in bytes, none for those that are not there, some hundreds at a request."""
    return (info.size for info in _infos(urls))


def stamps(urls: Iterable[str]) -> Iterator[tuple[int | None, int | None]]:
    """The sizes, and the times of the last change in nanoseconds: together they tell whether a file is what it was."""
    return ((info.size, info.mtime_ns) for info in _infos(urls))


def _infos(urls: Iterable[str]) -> Iterator[fs.FileInfo]:
    remaining = iter(urls)
    while part := list(islice(remaining, FILES_A_REQUEST)):
        located = [locate(url) for url in part]
        yield from located[0][0].get_file_info([path for _, path in located])


@contextmanager
def open_input(url: str) -> Iterator[pa.NativeFile]:
    """A random-access file. Raises `DataError` where it is missing, or is local and cannot be opened."""
    filesystem, path = locate(url)
    try:
        with _permitted(url):
            file = filesystem.open_input_file(path)
    except FileNotFoundError:
        raise DataError("no such file", where=url) from None
    except OSError as error:
        if not isinstance(filesystem, fs.LocalFileSystem):
            raise  # a store that does not answer says nothing about the file
        reason = "it is a folder" if os.path.isdir(path) else str(error)
        raise DataError(f"cannot be read ({reason})", where=url) from None
    with file:
        yield file


@contextmanager
def open_output(url: str) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ends without an exception, and not otherwise.

    Raises:
        DataError: no such file can be made, or there is no space left for it.
    """
    filesystem, path = locate(url)
    if not isinstance(filesystem, fs.LocalFileSystem):
        buffer = io.BytesIO()
        yield buffer
        try:
            with filesystem.open_output_stream(path) as stream:  # an object appears when the upload is complete
                stream.write(buffer.getbuffer())
        except OSError as error:
            hint = "does the bucket exist, and do your credentials let you write there?"
            raise DataError(f"cannot be written ({error})", where=url, hint=hint) from None
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with _writable(url):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _writable(url):
            temporary.replace(target)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        hint = "make space and run the same command: it goes on from here"
        raise DataError(f"cannot be written ({error.strerror})", where=url, hint=hint) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _permitted(url: str, done: str = "read") -> Iterator[None]:
    try:
        yield
    except PermissionError:
        hint = "whose is it, and are the folders that it is in open to you?"
        raise DataError(f"cannot be {done} (permission denied)", where=url, hint=hint) from None


@contextmanager
def _writable(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror})", where=url, hint="is a file in the way, or may you not write there?"
        ) from None


def read_bytes(url: str) -> bytes:
    with open_input(url) as file:
        return bytes(file.read())


def write_bytes(url: str, data: bytes) -> None:
    with open_output(url) as file:
        file.write(data)


def read_json(url: str) -> Any:
    try:
        return json.loads(read_bytes(url))
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", where=url) from None


def write_json(url: str, value: Any) -> None:
    write_bytes(url, (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n").encode())


def write_lines(url: str, lines: Iterable[str]) -> None:
    with open_output(url) as file:
        for line in lines:
            file.write(line.encode() + b"\n")


def read_table(url: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, whole or some of its columns.

    Raises:
        DataError: missing, cut off or otherwise not Parquet, or a column is missing.
    """
    with open_parquet(url) as file:
        missing = [name for name in columns or [] if name not in file.schema_arrow.names]
        if missing:
            raise DataError(
                f"has no column {', '.join(missing)}", where=url, hint=f"it has {', '.join(file.schema_arrow.names)}"
            )
        return file.read(columns=columns)


@contextmanager
def open_parquet(url: str, *, buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    """A Parquet file for reading by row group. What cannot be read within the block is a `DataError` too.

    Args:
        buffer_size: bytes of a column that are read at once; 0: the row group's whole column.
    """
    with open_input(url) as file:
        try:
            yield pq.ParquetFile(file, buffer_size=buffer_size, pre_buffer=not buffer_size)
        except (pa.ArrowException, OSError) as error:
            raise _not_parquet(url, error) from None


def write_table(url: str, table: pa.Table, *, row_group_size: int | None = None, compression: str = "zstd") -> None:
    with open_output(url) as file:
        pq.write_table(table, file, row_group_size=row_group_size, compression=compression)


def table_bytes(table: pa.Table) -> bytes:
    """A table as `write_table` writes it: the same bytes for the same table."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return bytes(buffer.getvalue())


def write_batches(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """An Arrow file of record batches, each of which can be read without the others."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with open_output(url) as file, pa.ipc.new_file(file, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def read_batches(url: str, numbers: Iterable[int]) -> list[pa.RecordBatch]:
    """Some record batches of an Arrow file, by their numbers.

    Raises:
        DataError: missing, cut off or otherwise not Arrow.
    """
    with open_input(url) as file:
        try:
            reader = pa.ipc.open_file(file)
            return [reader.get_batch(number) for number in numbers]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot be read as Arrow ({str(error).splitlines()[0]})", where=url) from None


def _not_parquet(url: str, error: Exception) -> DataError:
    return DataError(
        f"cannot be read as Parquet ({str(error).splitlines()[0]})",
        where=url,
        hint="it is damaged or cut off: fetch it again, or where a job made it delete it and its stage's manifest.json "
        "and run that job",
    )


def delete(url: str) -> None:
    """Remove a file or a folder with all that is in it; nothing where it does not exist.

    Raises:
        DataError: it may not be removed.
    """
    filesystem, path = locate(url)
    with _permitted(url, "deleted"), suppress(FileNotFoundError):  # another process may delete it, too
        kind = filesystem.get_file_info(path).type
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(path)
        elif kind == fs.FileType.File:
            filesystem.delete_file(path)


@contextmanager
def locked(url: str, wait: Callable[[], None]) -> Iterator[None]:
    """Within the block no other process is within one of the same local folder, which is made where there is none.

    `wait` is called before there is waiting for another. The lock goes with its process, also where that is killed.
    Object stores, and some network file systems, know no locks: there nobody waits.
    """
    filesystem, path = locate(url)
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    with ExitStack() as until_done:
        with _writable(url):
            Path(path).mkdir(parents=True, exist_ok=True)
            file = until_done.enter_context(Path(path, ".lock").open("wb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def copy_folder(source: str, target: str, largest: int | None = None) -> None:
    """Copy every file below a folder, between stores too; `largest`: bytes above which a file is left out. Not atomic:
    write what makes it count afterwards."""
    urls = list_files(source, recursive=True)
    for url, size in zip(urls, sizes(urls), strict=True):
        if largest is None or (size or 0) <= largest:
            with open_input(url) as read, open_output(join(target, url[len(source.rstrip("/")) + 1 :])) as write:
                shutil.copyfileobj(read, write, BYTES_AT_ONCE)


@contextmanager
def local_folder(url: str, largest: int | None = None) -> Iterator[Path]:
    """A folder as a local path: itself where it is local, else a copy that goes when the block ends, of the files of at
    most `largest` bytes."""
    if is_local(url):
        yield Path(locate(url)[1])
        return
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        copy_folder(url, temporary, largest)
        yield Path(temporary)
