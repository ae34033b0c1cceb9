"""One Ray cluster for the tests that need one: starting it takes seconds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # makes `tones` importable
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost more than they bring
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let its workers starve beside other tests
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # transformers would ask the hub about folders, too
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="module")  # it stays from module to module, but for those that have clusters of their own
def ray_cluster() -> None:
    from xlst_ray.cluster.options import ClusterOptions
    from xlst_ray.cluster.session import connect

    connect(ClusterOptions(address="local", cpus=2))


@pytest.fixture(scope="session")
def kill_when() -> Callable[[Sequence[str], Callable[[], bool]], None]:
    """Runs a command and kills it, with all its processes, by signal 9 as soon as a condition holds."""

    def kill(command: Sequence[str], condition: Callable[[], bool]) -> None:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            while not condition():
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)  # between two looks
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    return kill


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
