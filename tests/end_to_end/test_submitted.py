"""The recipe sent to a Ray cluster that wants a token: submitted, followed, stopped, submitted again, to its end."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
UPDATES = 600  # of the training that is stopped: enough for a signal to arrive before its end

pytestmark = pytest.mark.cluster  # minutes: a cluster starts, and the recipe runs on it


@dataclass(frozen=True)
class TokenCluster:
    """A head that was started as on any machine, its dashboard's address, and a file with its token."""

    address: str
    token_file: Path
    environment: dict[str, str]

    def submit(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        """`jobs/submit.py` in a folder, as a user calls it."""
        options = [f"address={self.address}", f"token_file={self.token_file}", *arguments]
        return _python(folder, self.environment, "jobs/submit.py", *options)

    def ray_job(self, *arguments: str) -> str:
        """`ray job ...` with the token; returns what it printed."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        command = [RAY, "job", arguments[0], "--address", self.address, *arguments[1:]]
        done = subprocess.run(
            command, env={**self.environment, **token}, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return done.stdout.decode()


def _python(folder: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCluster]:
    home = tmp_path_factory.mktemp("home")  # where no token lies
    file, token = home / "token", secrets.token_hex(32)
    file.write_text(token)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs say `python`
    own |= {"HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}
    port, dashboard, agent, client = _free_ports(4)
    temporary = tempfile.mkdtemp(prefix="xr-token-", dir="/tmp")  # short: it holds sockets
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    ports += [f"--ray-client-server-port={client}"]
    size = ["--num-cpus=2", "--object-store-memory=200000000", f"--temp-dir={temporary}"]
    start = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--dashboard-host=127.0.0.1", *ports, *size]
    asked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    log = home / "head.log"
    with log.open("w") as lines:
        head = subprocess.Popen(start, env={**own, **asked}, stdout=lines, stderr=lines)
    try:
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            time.sleep(0.1)  # between two looks
        yield TokenCluster(f"http://127.0.0.1:{dashboard}", file, own)
    finally:
        head.send_signal(signal.SIGTERM)  # it ends what it has started
        head.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture(scope="module")
def folder(
    tiny: Callable[..., dict[str, Any]],
    write_config: Callable[[dict[str, Any], Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A working folder as a user has it: the code, and a configuration of the recipe."""
    made = tmp_path_factory.mktemp("submitted")
    for part in ("jobs", "xlst_ray"):
        shutil.copytree(ROOT / part, made / part, ignore=shutil.ignore_patterns("__pycache__"))
    workspace = tmp_path_factory.mktemp("workspace")
    config = tiny(workspace, cluster={"workers": 1, "worker_threads": 1})
    schedule = {"updates": UPDATES, "validate_every": UPDATES, "log_every": 10, "lr": 1e-3, "warmup": 2, "average": 1}
    config["asr"] = {**config["asr"], "train": schedule}
    write_config(config, made / "tiny.yaml")
    return made


def workspace(folder: Path) -> Path:
    (line,) = [line for line in (folder / "tiny.yaml").read_text().splitlines() if line.startswith("workspace:")]
    return Path(line.removeprefix("workspace:").strip())


RECIPE = ("--", "python", "jobs/run.py", "--config", "tiny.yaml")


def test_without_the_token_nothing_is_taken(cluster: TokenCluster, folder: Path) -> None:
    refused = _python(folder, cluster.environment, "jobs/submit.py", f"address={cluster.address}", *RECIPE)
    said, _ = refused.communicate()
    assert refused.returncode == 2
    assert "refuses the token" in said
    assert "token_file" in said


def test_a_job_runs_the_code_that_was_sent_and_its_exit_status_comes_back(cluster: TokenCluster, folder: Path) -> None:
    code = "import sys, xlst_ray; print('code of', xlst_ray.__file__); sys.exit(3)"
    job = cluster.submit(folder, "name=status", "--", "python", "-c", code)
    said, _ = job.communicate()
    assert job.returncode == 3, said
    assert "code of /tmp/xr-token-" in said, "of the cluster's copy of the folder"
    assert "status: failed" in said


def read_until(job: "subprocess.Popen[str]", text: str) -> None:
    assert job.stdout is not None
    said = []
    for line in job.stdout:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}: {''.join(said)}")


def test_a_recipe_is_stopped_and_goes_on_to_its_end(cluster: TokenCluster, folder: Path) -> None:
    sent = cluster.submit(folder, "name=first", "follow=false", *RECIPE)
    said, _ = sent.communicate()
    assert sent.returncode == 0, said

    following = cluster.submit(folder, "resume=first")  # it runs, so it is followed
    read_until(following, "prepare source")
    assert "running" in cluster.ray_job("status", "first").lower()
    twin = cluster.submit(folder, "name=twin", *RECIPE)
    assert "the same command runs already" in twin.communicate()[0]
    assert twin.returncode == 2

    read_until(following, "asr-en seed 1  update")
    cluster.ray_job("stop", "first")
    rest, _ = following.communicate()
    assert following.returncode == 143, rest
    assert "stopped" in cluster.ray_job("status", "first").lower()
    assert "asked to end (SIGTERM): a checkpoint first" in cluster.ray_job("logs", "first")
    saved = list(workspace(folder).glob("stages/asr-en-*/checkpoints/update-*"))
    assert len(saved) == 1, rest
    update = int(saved[0].name.removeprefix("update-"))
    assert 0 < update < UPDATES

    again = cluster.submit(folder, "resume=first", "name=second")
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert f"asr-en seed 1: goes on from update {update} with 1 processes" in said
    assert "second: succeeded" in said
    assert (workspace(folder) / "runs" / "tiny" / "results.json").is_file()
    assert (workspace(folder) / "runs" / "tiny" / "report.html").is_file()
