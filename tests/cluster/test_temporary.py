"""The folder of a cluster that is started here: one's own, and gone when nobody holds it any more."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xlst_ray.cluster import temporary
from xlst_ray.cluster.temporary import session_folder


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(temporary, "PARENT", tmp_path)
    monkeypatch.setattr(temporary.atexit, "register", lambda *_: None)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return tmp_path


@contextmanager
def another_process() -> Iterator[Path]:
    """A process with a folder; killed with -9 at the end of the block."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, session_folder().encode())
        signal.pause()
    try:
        yield Path(os.read(reading, 4096).decode())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_folder_stays_while_its_process_lives_and_goes_after_kill() -> None:
    with another_process() as theirs:
        (theirs / "session").mkdir()
        first = Path(session_folder())
        assert theirs.is_dir()
        assert first != theirs
    assert theirs.is_dir(), "killed: it could not remove it"
    session_folder()
    assert not theirs.exists()


def test_what_is_not_such_a_folder_stays(parent: Path) -> None:
    (parent / "xr-mine").mkdir()
    (parent / "xr-mine" / "file").write_text("mine")
    session_folder()
    assert (parent / "xr-mine" / "file").read_text() == "mine"


def test_a_folder_that_is_named_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, parent: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(parent / "named"))
    assert session_folder() == str(parent / "named")
    assert not list(parent.iterdir())
