"""The folder of a Ray cluster that is started here: removed as the process ends, or by a later one if it was killed."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import ray

PARENT = Path("/tmp")  # short: Ray's folder holds sockets, whose paths may have 107 characters
PREFIX = "xr-"
LOCK = "owner.lock"


def session_folder() -> str:
    """A folder of this process' own: stale files of another cluster break a start. `RAY_TMPDIR` names another."""
    if named := os.environ.get("RAY_TMPDIR"):
        return named
    for folder in PARENT.glob(f"{PREFIX}*"):
        _remove_if_left(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends, however it does
    atexit.register(_shut_down, folder)
    return str(folder)


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that is no more: nobody holds its lock."""
    with suppress(OSError):  # another user's, or one that is being made or removed at this moment
        lock = os.open(folder / LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _shut_down(folder: Path) -> None:
    ray.shutdown()  # its processes write there; Ray's own shutdown at exit would come after this one
    shutil.rmtree(folder, ignore_errors=True)
