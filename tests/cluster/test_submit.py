"""Submitting without a cluster: what goes along, what is refused, what is recorded, how a log is followed."""

import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray.job_submission import JobDetails, JobStatus, JobType

from xlst_ray.cluster import submit
from xlst_ray.cluster.submit import RECORDS, SubmitOptions, follow
from xlst_ray.errors import ConfigError

ROOT = Path(__file__).parents[2]


def job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("job_submit", ROOT / "jobs" / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Cluster:
    """Ray's job server as its client sees it: `submitted` are the requests, `tails` what looks at the log bring, up to
    an error, where the connection is lost."""

    def __init__(self, tails: list[list[str | Exception]], ends: list[tuple[JobStatus, int | None]]) -> None:
        self.tails, self.ends = tails, ends
        self.submitted: list[dict[str, Any]] = []

    def get_address(self) -> str:
        return "http://cluster:8265"

    def list_jobs(self) -> list[JobDetails]:
        return [details(request["submission_id"], request["entrypoint"], *self.ends[0]) for request in self.submitted]

    def submit_job(self, **request: Any) -> str:
        self.submitted.append(request)
        return str(request["submission_id"])

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        for text in self.tails.pop(0):
            if isinstance(text, Exception):
                raise text
            yield text

    def get_job_info(self, name: str) -> JobDetails:
        return details(name, "", *(self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]))


def details(name: str, entry_point: str, status: JobStatus, code: int | None) -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=name,
        entrypoint=entry_point,
        status=status,
        driver_exit_code=code,
        message="the head died",
    )


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "SECONDS_BETWEEN_TRIES", 0.0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    """A cluster whose jobs succeed at once, in place of the one at the address; this folder goes along."""
    found = Cluster([["done\n"]] * 9, [(JobStatus.SUCCEEDED, 0)])
    monkeypatch.setattr(submit, "JobSubmissionClient", lambda address, headers: found)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("name: x\n")
    return found


COMMAND = ["python", "jobs/run.py", "--config", "my.yaml", "seeds=[1, 2]"]


def test_a_submission_carries_what_it_says(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/models")
    options = ["exclude=[data/]", "pass_env=[HF_HOME]", "cpus=2", "memory=1.5", "resources={driver: 1}", "name=first"]
    assert job().main([*options, "--", *COMMAND]) == 0
    (request,) = cluster.submitted
    assert request["entrypoint"] == "python jobs/run.py --config my.yaml 'seeds=[1, 2]'"
    environment = request["runtime_env"]
    assert environment["working_dir"] == str(tmp_path)
    assert environment["excludes"] == ["data/"]
    assert environment["env_vars"] == {"HF_HOME": "/models", "RAY_JOB_STOP_WAIT_TIME_S": "120", "XLST_RUN": "first"}
    assert request["entrypoint_num_cpus"] == 2
    assert request["entrypoint_num_gpus"] is None, "none: the driver may be on the head"
    assert request["entrypoint_memory"] == 1.5 * 2**30
    assert request["entrypoint_resources"] == {"driver": 1}


def test_a_value_that_is_passed_is_neither_shown_nor_kept(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MT_API_KEY", "s3cret")
    assert job().main(["pass_env=[MT_API_KEY]", "name=first", "--", *COMMAND]) == 0
    out, err = capfd.readouterr()
    assert "MT_API_KEY goes along" in out
    assert "s3cret" not in out + err + (tmp_path / RECORDS / "first.json").read_text()


def test_resume_is_the_same_submission_under_another_name(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert job().main(["name=first", "stop_seconds=7", "follow=false", "--", *COMMAND]) == 0
    assert "done" not in capfd.readouterr().out
    assert job().main(["resume=first"]) == 0
    assert "done" in capfd.readouterr().out, "whether it is followed is not the submission's, but the call's"
    first, second = cluster.submitted
    assert first["submission_id"] != second["submission_id"]
    assert first["entrypoint"] == second["entrypoint"]
    assert second["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "7"


def test_a_job_that_runs_is_followed_and_not_started_twice(
    cluster: Cluster, at_once: None, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.ends = [(JobStatus.RUNNING, None), (JobStatus.SUCCEEDED, 0)]
    assert job().main(["name=first", "follow=false", "--", *COMMAND]) == 0
    assert job().main(["--", *COMMAND]) == 2
    assert "the same command runs already" in capfd.readouterr().err
    assert job().main(["resume=first"]) == 0
    assert len(cluster.submitted) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no command to submit"),
        (["resume=x", "--", "python"], "leave out what stands behind --"),
        (["resume=x"], "no such submission"),
        (["pass_env=[NOT_SET_HERE]", "--", "python"], "NOT_SET_HERE is not set here"),
        (["--", "python", "jobs/run.py", "--config", "/etc/passwd"], "/etc/passwd: is no file below"),
        (["--", "python", "jobs/run.py", "--config=nothing.yaml"], "nothing.yaml: is no file below"),
        (["token_file=nothing", "--", "python"], "token_file=nothing: no such file"),
        (["adress=x", "--", "python"], "did you mean address?"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    cluster: Cluster, arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert job().main(arguments) == 2
    assert says in capfd.readouterr().err
    assert not cluster.submitted


def test_a_cluster_that_is_not_there_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert job().main(["address=http://127.0.0.1:1", "--", "python"]) == 2
    err = capfd.readouterr().err
    assert "address=http://127.0.0.1:1: no cluster answers" in err
    assert "8265" in err


def test_a_configuration_is_found_from_the_folder_that_goes_along(cluster: Cluster, tmp_path: Path) -> None:
    absolute = str(tmp_path / "my.yaml")
    assert job().main(["--", "python", "jobs/run.py", f"--config={absolute}"]) == 0
    assert cluster.submitted[0]["entrypoint"] == "python jobs/run.py --config=my.yaml"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 143),
    ],
)
def test_the_exit_status_is_that_of_the_job(status: JobStatus, code: int | None, expected: int) -> None:
    client: Any = Cluster([["line\n"]], [(status, code)])
    assert follow(client, "x") == expected


def test_a_log_is_followed_over_a_lost_connection_without_a_line_twice(
    at_once: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray sends a log from its beginning at each connection."""
    gone = OSError("gone")
    tails: list[list[str | Exception]] = [["one\n"], [gone], ["one\ntwo\n", gone], ["one\n", "two\nthree\n"]]
    client: Any = Cluster(tails, [(JobStatus.RUNNING, None), (JobStatus.SUCCEEDED, 0)])
    assert follow(client, "x") == 0
    assert capfd.readouterr().out == "one\ntwo\nthree\nx: succeeded\n"


def test_a_cluster_that_dies_while_it_is_followed_ends_with_what_to_do(at_once: None) -> None:
    client: Any = Cluster([[OSError("gone")]] * 9, [(JobStatus.RUNNING, None)])
    with pytest.raises(ConfigError, match=r"resume=x"):
        follow(client, "x")


def test_what_the_job_needs_goes_along_and_the_rest_stays() -> None:
    """By Ray's own reading of .gitignore and .rayignore."""
    ignored = get_excludes_from_ignore_files(ROOT, include_gitignore=True)

    def stays(name: str) -> bool:
        return any(ignore(ROOT / name) for ignore in ignored)

    for name in ("jobs/run.py", "jobs/configs/demo.yaml", "xlst_ray/config.py", "pyproject.toml"):
        assert (ROOT / name).is_file()
        assert not stays(name)
    for name in ("tests/conftest.py", "docs/launcher.md", ".git/config", "runs/stages", ".venv/bin"):
        assert stays(name), name


def test_what_is_recorded_is_enough_to_submit_again(cluster: Cluster, tmp_path: Path) -> None:
    assert job().main(["name=first", "cpus=1", "--", *COMMAND]) == 0
    record = json.loads((tmp_path / RECORDS / "first.json").read_text())
    assert record["command"] == COMMAND
    assert SubmitOptions.model_validate(record["options"]).cpus == 1
