"""Done and identical: skipped. Begun: continued. Different: refused. Damaged: said."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.stages.stage import Stage, find_finished, fingerprint, finished, replace_other, run_stage, versions

STAGE = Stage("demo", {"size": 3, "part": {"a": 1, "b": [1, 2]}}, {"corpus": "abc"})


class Work:
    """Writes a file a part, and goes on from what is there; stops before a part when told to."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.done: list[int] = []
        self._stop = stop_before

    def __call__(self, folder: str) -> dict[str, Any]:
        for part in range(3):
            url = storage.join(folder, f"part-{part}")
            if storage.exists(url):
                continue
            if part == self._stop:
                raise KeyboardInterrupt
            storage.write_bytes(url, b"x")
            self.done.append(part)
        return {"parts": 3}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(), max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=2)), st.lists(st.text(max_size=2)))
def test_a_fingerprint_tells_values_apart(left: list[str], right: list[str]) -> None:
    right = [text.encode(errors="replace").decode() for text in right]
    assert (fingerprint(left) == fingerprint(right)) == (left == right)


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    expected = hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()[:12]
    assert fingerprint({"b": [1, "é"], "a": None}) == expected
    code = "from xlst_ray.stages.stage import fingerprint; print(fingerprint({'a': None, 'b': [1, 'é']}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    "other",
    [
        replace(STAGE, name="other"),
        replace(STAGE, config={**STAGE.config, "size": 4}),
        replace(STAGE, config={**STAGE.config, "further": None}),
        replace(STAGE, inputs={"corpus": "abd"}),
        replace(STAGE, inputs={"labels": "abc"}),
        replace(STAGE, version=2),
    ],
)
def test_all_that_a_stage_is_counts(other: Stage) -> None:
    assert other.fingerprint != STAGE.fingerprint
    assert STAGE.folder_name == f"demo-{STAGE.fingerprint}"


def test_done_once_and_then_found(tmp_path: Path) -> None:
    work = Work()
    first = run_stage(STAGE, str(tmp_path), work)
    assert (work.done, first.reused, first.counts) == ([0, 1, 2], False, {"parts": 3})
    again = run_stage(STAGE, str(tmp_path), work)
    assert work.done == [0, 1, 2]
    assert again == replace(first, reused=True)
    assert finished(str(tmp_path)) == again


def test_what_a_resume_needs_goes_when_the_manifest_is_there_and_not_before(tmp_path: Path) -> None:
    def work(folder: str, *, stopped: bool) -> dict[str, Any]:
        storage.write_bytes(storage.join(folder, "checkpoints", "update-1", "state.json"), b"x")
        if stopped:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_stage(STAGE, str(tmp_path), partial(work, stopped=True))
    assert (tmp_path / "checkpoints").is_dir()
    run_stage(STAGE, str(tmp_path), partial(work, stopped=False))
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["manifest.json", "stage.json"]


def test_the_manifest_says_what_was_done_with_what(tmp_path: Path) -> None:
    run_stage(STAGE, str(tmp_path), Work())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"] == STAGE.config
    assert manifest["inputs"] == STAGE.inputs
    assert manifest["fingerprint"] == STAGE.fingerprint
    assert manifest["versions"] == versions()
    assert {"python", "ray", "torch", "pyarrow"} <= versions().keys()


def test_a_stopped_stage_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(STAGE, str(tmp_path), Work(stop_before=2))
    assert find_finished(str(tmp_path)) is None
    with pytest.raises(DataError, match="was begun but not finished"):
        finished(str(tmp_path))
    work = Work()
    assert not run_stage(STAGE, str(tmp_path), work).reused
    assert work.done == [2]


def test_a_killed_stage_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom xlst_ray import storage\nfrom xlst_ray.stages.stage import Stage, run_stage\n"
        "def work(folder):\n    storage.write_bytes(folder + '/part-0', b'x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"run_stage(Stage({STAGE.name!r}, {STAGE.config!r}, {STAGE.inputs!r}), sys.argv[1], work)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    work = Work()
    run_stage(STAGE, str(tmp_path), work)
    assert work.done == [1, 2]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (replace(STAGE, config={"size": 4, "part": {"a": 2, "b": [1, 2]}}), "(part.a, size differ)"),
        (replace(STAGE, config={"size": 3}), "(part differ)"),
        (replace(STAGE, inputs={"corpus": "abd"}), "(input corpus differ)"),
        (replace(STAGE, name="other"), "another demo stage"),
    ],
)
@pytest.mark.parametrize("stop_before", [None, 1])
def test_another_stage_is_refused_and_nothing_is_touched(
    tmp_path: Path, other: Stage, says: str, stop_before: int | None
) -> None:
    if stop_before is None:
        run_stage(STAGE, str(tmp_path), Work())
    else:
        with pytest.raises(KeyboardInterrupt):
            run_stage(STAGE, str(tmp_path), Work(stop_before))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    work = Work()
    with pytest.raises(ConfigError) as caught:
        run_stage(other, str(tmp_path), work)
    assert says in caught.value.what
    assert caught.value.where == str(tmp_path)
    assert work.done == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_finished_stage_is_refused_by_its_manifest_alone(tmp_path: Path) -> None:
    run_stage(STAGE, str(tmp_path), Work())
    (tmp_path / "stage.json").unlink()
    with pytest.raises(ConfigError, match="holds another demo stage"):
        run_stage(replace(STAGE, version=2), str(tmp_path), Work())
    assert run_stage(STAGE, str(tmp_path), Work()).reused


def test_a_mended_command_may_take_the_folder_in_which_nothing_came_about(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(STAGE, str(tmp_path), Work(stop_before=0))
    mended = replace(STAGE, inputs={"corpus": "mended"})
    assert run_stage(mended, str(tmp_path), Work()).fingerprint == mended.fingerprint
    assert json.loads((tmp_path / "stage.json").read_text())["inputs"] == {"corpus": "mended"}


@pytest.mark.parametrize("content", ['{"fingerprint": "ab', "", "[]", "{}", '"text"', "\xff"])
@pytest.mark.parametrize("name", ["manifest.json", "stage.json"])
def test_a_damaged_description_is_said_not_skipped(tmp_path: Path, name: str, content: str) -> None:
    run_stage(STAGE, str(tmp_path), Work())
    if name == "stage.json":
        (tmp_path / "manifest.json").unlink()
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    work = Work()
    with pytest.raises(DataError) as caught:
        run_stage(STAGE, str(tmp_path), work)
    assert caught.value.where == str(tmp_path / name)
    assert "delete the folder" in str(caught.value.hint)
    assert work.done == []


@pytest.mark.parametrize("name", ["manifest.json", "notes.txt"])
def test_files_of_somebody_else_stay_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]")
    work = Work()
    with pytest.raises((ConfigError, DataError)) as caught:
        run_stage(STAGE, str(tmp_path), work)
    assert "delete" not in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert work.done == []


def test_another_stage_gives_way_and_files_of_somebody_else_do_not(tmp_path: Path) -> None:
    run_stage(STAGE, str(tmp_path / "scores"), Work())
    replace_other(STAGE, str(tmp_path / "scores"))
    assert (tmp_path / "scores" / "manifest.json").exists(), "the same one stays"
    replace_other(replace(STAGE, version=2), str(tmp_path / "scores"))
    assert not (tmp_path / "scores").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="has not written"):
        replace_other(STAGE, str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_manifest_cut_off_anywhere_is_said(tmp_path: Path) -> None:
    run_stage(STAGE, str(tmp_path), Work())
    whole = (tmp_path / "manifest.json").read_bytes()
    for length in range(0, len(whole.rstrip()), 7):
        (tmp_path / "manifest.json").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"manifest\.json"):
            finished(str(tmp_path))


def test_what_is_no_stage_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match=r"no manifest\.json"):
            finished(str(folder))


def test_a_stage_of_another_kind_is_said(tmp_path: Path) -> None:
    run_stage(STAGE, str(tmp_path), Work())
    assert finished(str(tmp_path), "size", "part").counts == {"parts": 3}
    with pytest.raises(DataError, match=r"holds the stage demo, not shards, which jobs/prepare\.py makes"):
        finished(str(tmp_path), "corpus", "size")


class Terminal(io.StringIO):
    """Notices when a job says that it waits: a captured output that is read meanwhile may lose what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Event()

    def write(self, text: str) -> int:
        if "another job is at work here: waiting for it" in text:
            self.waits.set()
        return super().write(text)


def test_what_another_process_is_at_is_waited_for_and_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, calls = Event(), Event(), list[str]()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    def work(folder: str) -> dict[str, int]:
        calls.append(folder)
        began.set()
        go_on.wait()
        return {"rows": 1}

    with ThreadPoolExecutor(2) as threads:  # a lock is that of an open file: threads are apart as processes are
        first = threads.submit(run_stage, STAGE, str(tmp_path / "out"), work)
        began.wait(timeout=60)
        second = threads.submit(run_stage, STAGE, str(tmp_path / "out"), work)
        waited = terminal.waits.wait(timeout=60) and not second.done()
        go_on.set()
    assert waited
    assert (first.result().reused, second.result().reused) == (False, True)
    assert second.result().counts == {"rows": 1}
    assert calls == [str(tmp_path / "out")]
