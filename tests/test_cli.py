import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import ray

from xlst_ray.cli import run_job
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError


class Job(Section):
    size: int = option(1, "how large", unit="rows", ge=1)
    names: tuple[str, ...] = option((), "who")
    dry_run: bool = option(False, "whether nothing is done")


def run(*arguments: str, work: Callable[[Job], str] = lambda job: f"{job.size} {job.names}") -> int:
    return run_job(Job, work, "Does 100% of it.\n\nexample: job.py size=2", list(arguments))


def test_work_gets_the_configuration_and_its_answer_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("size=3", "names=[a]") == 0
    assert capsys.readouterr().out == "3 ('a',)\n"


def test_keys_may_stand_on_both_sides_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("size: 5\nnames: [file]\n")
    assert run("names=[before]", "--config", str(file), "size=7") == 0
    assert capsys.readouterr().out == "7 ('before',)\n"


@pytest.mark.parametrize(
    "arguments", [["--size", "3", "--dry-run"], ["--dry-run", "--size=3"], ["size=3", "dry_run=true"]]
)
def test_keys_may_be_written_as_flags(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, work=lambda job: f"{job.size} {job.dry_run}") == 0
    assert capsys.readouterr().out == "3 True\n"


def test_a_flag_without_its_value_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--size") == 2
    assert "size: " in capsys.readouterr().err


def test_an_error_of_the_users_is_said_on_stderr_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(job: Job) -> str:
        raise DataError("is empty", where="a.tsv", hint="delete it")

    assert run(work=fail) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: a.tsv: is empty\n  -> delete it\n")
    assert run("sise=3") == 2
    assert "did you mean size?" in capsys.readouterr().err


def test_a_full_disk_is_said_whoever_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    def fill(job: Job) -> str:
        with open("/dev/full", "w") as file:
            file.write("more than nothing")
        return "written"

    assert run(work=fill) == 2
    assert (
        capsys.readouterr().err
        == "error: No space left on device\n  -> make space; the same command goes on from here\n"
    )


def test_a_bug_keeps_its_traceback() -> None:
    def fail(job: Job) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(work=fail)


def test_a_stopped_job_says_that_it_can_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def stop(job: Job) -> str:
        raise KeyboardInterrupt

    assert run(work=stop) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_sigterm_stops_a_job_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    def be_stopped(job: Job) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "went on"

    before = signal.getsignal(signal.SIGTERM)
    assert run(work=be_stopped) == 143
    out, err = capsys.readouterr()
    assert out == ""
    assert "goes on from here" in err
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_stops_a_job_that_waits_for_ray(ray_cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote(num_cpus=0)
    def ask_to_stop(process: int) -> None:
        os.kill(process, signal.SIGTERM)
        Event().wait()

    asked = []

    def wait(job: Job) -> str:
        asked.append(ask_to_stop.remote(os.getpid()))
        return str(ray.get(asked[0]))

    assert run(work=wait) == 143
    assert "goes on from here" in capsys.readouterr().err
    ray.cancel(asked[0], force=True)


def test_a_job_may_end_by_itself() -> None:
    def leave(job: Job) -> str:
        sys.exit(5)

    with pytest.raises(SystemExit, match="5"):
        run(work=leave)


def test_help_shows_what_the_job_is_for_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run("--help")
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "Does 100% of it." in out
    assert "size : int [rows], default 1" in out


def test_an_unknown_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run("--sise=3")
    assert exit_.value.code == 2
