"""The recipe sent to a Ray cluster that wants a token: submitted, followed, stopped, submitted again, to its end."""

import json
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
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml
from job_output import read_until
from process_tree import descendants

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
UPDATES = 600  # of the training that is stopped: enough for a signal to arrive before its end

pytestmark = pytest.mark.cluster  # minutes: a cluster starts, and the recipe runs on it


class TokenCluster:
    """A head that is started as on any machine, its dashboard's address, and a file with its token."""

    def __init__(self, home: Path) -> None:
        self.token_file, token = home / "token", secrets.token_hex(32)
        self.token_file.write_text(token)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs say `python`
        self.environment = own | {"HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        port, dashboard, agent, client = _free_ports(4)
        self.address, self.gcs = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}"
        ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        self._ports = [*ports, f"--ray-client-server-port={client}", "--dashboard-host=127.0.0.1"]
        self._log = home / "head.log"
        self.start()

    def start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="xr-token-", dir="/tmp")  # short: it holds sockets
        size = ["--num-cpus=2", "--object-store-memory=200000000", f"--temp-dir={self._folder}"]
        command = [RAY, "start", "--head", "--block", "--disable-usage-stats", *self._ports, *size]
        # Where several clusters share a machine, Ray's processes ask the one at RAY_ADDRESS, else any.
        asked = {"RAY_ADDRESS": self.gcs, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", "RAY_worker_niceness": "0"}
        with self._log.open("w") as lines:
            self._head = subprocess.Popen(
                command, env={**self.environment, **self.token, **asked}, stdout=lines, stderr=lines
            )
        while "Ray runtime started" not in self._log.read_text():
            assert self._head.poll() is None, self._log.read_text()
            time.sleep(0.1)  # between two looks

    def die(self) -> None:
        """As where the machine loses its power."""
        for process in [self._head.pid, *descendants(self._head.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._head.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        self._head.send_signal(signal.SIGTERM)  # it ends what it has started
        self._head.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def submit(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        """`jobs/submit.py` in a folder, as a user calls it."""
        options = [f"address={self.address}", f"token_file={self.token_file}", *arguments]
        return _python(folder, self.environment, "jobs/submit.py", *options)

    def ray_job(self, *arguments: str) -> str:
        """`ray job ...` with the token; returns what it printed."""
        command = [RAY, "job", arguments[0], "--address", self.address, *arguments[1:]]
        done = subprocess.run(
            command,
            env={**self.environment, **self.token},
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.stdout.decode()

    def drivers(self) -> int:
        """How many processes have joined it that were not submitted."""
        asked = Request(f"{self.address}/api/jobs/")
        asked.add_header("Authorization", f"Bearer {self.token_file.read_text()}")
        with urlopen(asked) as answer:
            return sum(job["type"] == "DRIVER" for job in json.load(answer))


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
    started = TokenCluster(tmp_path_factory.mktemp("home"))  # where no token lies
    yield started
    started.stop()


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
    read_until(again, f"asr-en seed 1: goes on from update {update} with 1 processes")
    read_until(again, "] asr-en seed 1 done in")
    cluster.die()
    said, _ = again.communicate()
    assert again.returncode == 2, said
    assert "second: the cluster does not answer" in said
    assert "jobs/submit.py resume=second" in said

    cluster.start()  # a new one, that knows of no job
    last = cluster.submit(folder, "resume=second", "name=third")
    said, _ = last.communicate()
    assert last.returncode == 0, said
    assert "] asr-en seed 1 was done before" in said
    assert "third: succeeded" in said
    assert (workspace(folder) / "runs" / "tiny" / "results.json").is_file()
    assert (workspace(folder) / "runs" / "tiny" / "report.html").is_file()


def test_a_job_joins_a_cluster_that_is_there(cluster: TokenCluster, folder: Path, tmp_path: Path) -> None:
    """The same command on a node of it, by RAY_ADDRESS."""
    there = {**cluster.environment, **cluster.token, "RAY_ADDRESS": cluster.gcs}
    out = tmp_path / "out"
    config = yaml.safe_load((folder / "tiny.yaml").read_text())["source"]["corpus"]
    corpus = ["corpus.reader=demo", "corpus.lang=en", f"corpus.demo={json.dumps(config['demo'])}"]
    before = cluster.drivers()
    job = _python(folder, there, "jobs/prepare.py", *corpus, "shards.rows_per_shard=16", f"out={out}")
    said, _ = job.communicate()
    assert job.returncode == 0, said
    assert cluster.drivers() == before + 1
    assert sum(1 for _ in out.glob("train/shard-*.parquet")) == 3
