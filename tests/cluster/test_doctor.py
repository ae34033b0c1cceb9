"""The doctor: each thing that can be wrong is found, with what to do about it."""

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from xlst_ray.cluster import doctor
from xlst_ray.cluster.doctor import DoctorOptions, Finding, check_authentication, check_node, examine, look_around
from xlst_ray.cluster.options import ClusterOptions

ROOT = Path(__file__).parents[2]
HERE = ClusterOptions(workers=0)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers `/<status>/models` with that status."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def find(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check.endswith(check)]
    return found


def test_a_machine_that_has_all_is_well(tmp_path: Path, server: str) -> None:
    options = DoctorOptions(workspace=str(tmp_path), engine=f"{server}/200", min_memory=0, min_disk=0, cluster=HERE)
    findings = list(examine(options))
    assert not [str(finding) for finding in findings if finding.failed]
    assert {"packages", "this machine, storage", "this machine, engine"} <= {finding.check for finding in findings}
    assert list(tmp_path.iterdir()) == [], "the probe is deleted"


def test_a_workspace_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = find(list(examine(DoctorOptions(workspace=f"{tmp_path}/file/below", cluster=HERE))), "storage")
    assert found.failed
    assert "cannot be written" in found.found
    assert found.advice


@pytest.mark.parametrize(("status", "fails"), [(200, False), (401, False), (404, True), (500, True)])
def test_an_engine_is_reached_or_not(server: str, status: int, fails: bool) -> None:
    """One that wants a key has answered: keys are not the doctor's to know."""
    found = find(list(examine(DoctorOptions(engine=f"{server}/{status}", cluster=HERE))), "engine")
    assert found.failed == fails
    if fails:
        assert str(status) in found.found


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nonsense"])
def test_an_engine_that_is_not_there_is_found(url: str) -> None:
    found = find(list(examine(DoctorOptions(engine=url, cluster=HERE))), "engine")
    assert found.failed
    assert url in found.found
    assert "does the server run?" in found.advice


def test_too_little_memory_and_disk_are_found_with_the_figure() -> None:
    findings = list(examine(DoctorOptions(min_memory=1e6, min_disk=1e6, cluster=HERE)))
    for what in ("memory", "disk"):
        found = find(findings, f"free {what}")
        assert found.failed
        assert f"min_{what}" in found.advice
        assert float(found.found.removesuffix(" GiB")) > 0


def test_a_node_of_another_version_or_without_cuda_is_found() -> None:
    options = DoctorOptions(min_memory=0, min_disk=0)
    facts = {**look_around(options), "cuda": None}
    facts["versions"] = {**facts["versions"], "ray": "2.0.0"}
    findings = list(check_node("node a", facts, options, gpus=4))
    assert f"ray 2.0.0, here {ray.__version__}" in find(findings, "versions").found
    assert find(findings, "versions").failed
    assert find(findings, "GPUs").failed
    assert not find(list(check_node("node a", facts, options, gpus=0)), "GPUs").failed
    silent = list(check_node("node b", {"error": "died"}, options, gpus=0))
    assert [finding.failed for finding in silent] == [True]


def test_a_package_out_of_range_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["numpy<1.0", "no-such-package>=1", "never; extra=='x'"])
    (found,) = doctor.check_packages()
    assert found.failed
    assert "is not <1.0" in found.found
    assert "no-such-package is missing" in found.found
    assert "never" not in found.found


@pytest.mark.parametrize(
    ("mode", "address", "fails"), [("token", "10.0.0.1:6379", False), ("", "10.0.0.1:6379", True), ("", "local", False)]
)
def test_a_cluster_without_a_token_is_found(mode: str, address: str, fails: bool) -> None:
    assert check_authentication(mode, ClusterOptions(address=address)).failed == fails


def test_the_job_exits_with_1_where_something_failed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("job_doctor", ROOT / "jobs" / "doctor.py")
    assert spec is not None
    assert spec.loader is not None
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    least = ["min_memory=0", "min_disk=0", "cluster.workers=0"]
    assert job.main([f"workspace={tmp_path}", *least]) == 0
    assert capsys.readouterr().out.endswith("all is well\n")
    assert job.main([f"workspace={tmp_path}", *least, "min_disk=1e6"]) == 1
    out = capsys.readouterr().out
    assert "FAILED  this machine, free disk" in out
    assert out.endswith("1 of the checks failed\n")
    assert job.main(["worspace=x"]) == 2
