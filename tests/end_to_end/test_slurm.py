"""The batch script of Slurm, with stand-ins for `srun` and `scontrol` that do on this machine what nodes would.

Run by `make test-cluster`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from job_output import read_until

ROOT = Path(__file__).parents[2]
UPDATES = 600  # enough for a signal to arrive before their end
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done  # its own options
echo "${3%%=*}" >> started
case "$3" in --address*) set -- "$@" --dashboard-agent-listen-port=0;; esac  # it has the head's machine
exec "$@" --num-cpus=1 --object-store-memory=100000000
"""

pytestmark = pytest.mark.cluster


@pytest.fixture
def allocation(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts the script on two nodes, as a job of the same number each time; ends what it leaves, as Slurm does."""
    tools, started = tmp_path / "tools", list[subprocess.Popen[str]]()
    tools.mkdir()
    for name, text in {"srun": SRUN, "scontrol": f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol\n'}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    folder = tempfile.mkdtemp(prefix="xr-slurm-", dir="/tmp")  # short: it holds sockets
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "RAY_TMPDIR": folder}
    own |= {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "2"}

    def start() -> "subprocess.Popen[str]":
        end_all_with(folder)
        command = ["bash", str(ROOT / "deploy" / "slurm.sh"), "--config", "tiny.yaml"]
        environment = {**own, "SLURMD_NODENAME": "node1", "RAY_worker_niceness": "0"}
        job = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(job)
        return job

    yield start
    end_all_with(folder)
    for job in started:
        job.wait()
    shutil.rmtree(folder, ignore_errors=True)


def end_all_with(variable: str) -> None:
    """All processes with a value in their environment, also those whose parents have ended."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another's
            if variable.encode() in environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


def test_a_job_whose_time_is_up_is_queued_again_and_goes_on_from_its_checkpoint(
    allocation: Callable[[], "subprocess.Popen[str]"],
    tmp_path: Path,
    tiny: Callable[..., dict[str, Any]],
    write_config: Callable[[dict[str, Any], Path], Path],
) -> None:
    config = tiny(tmp_path / "work", arms=["scratch"], engines={}, cluster={"workers": 1, "decoders": 0})
    schedule = {"updates": UPDATES, "validate_every": UPDATES, "log_every": 10, "lr": 1e-3, "warmup": 2, "average": 1}
    write_config({**config, "finetune": {**config["finetune"], "train": schedule}}, tmp_path / "tiny.yaml")

    job = allocation()
    read_until(job, "asr-fi-scratch seed 1  update")
    job.send_signal(signal.SIGTERM)  # to the script alone, as `--signal=B:TERM` asks
    read_until(job, "asked to end (SIGTERM): a checkpoint first")
    assert job.wait() == 143
    assert (tmp_path / "scontrol").read_text() == f"requeue {os.getpid()}\n"
    (saved,) = tmp_path.glob("work/stages/asr-fi-scratch-*/checkpoints/update-*")
    update = int(saved.name.removeprefix("update-"))
    assert 0 < update < UPDATES
    again = allocation()
    read_until(again, f"asr-fi-scratch seed 1: goes on from update {update} with 1 processes")
    read_until(again, f"{tmp_path}/work/runs/tiny/results.json")
    assert again.wait() == 0
    assert sorted((tmp_path / "started").read_text().split()) == ["--address", "--address", "--head", "--head"]
