"""Clusters of several nodes on this machine, for tests: labels, fake GPUs, and nodes that are lost without grace."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions

STORE = 80 * 2**20  # bytes of each node's object store: the least that Ray takes
# Trainers ask for no GPU: a process that has a fake one would train on it. Engines do.
ASKED = ClusterOptions(by_role=True, worker_cpus=1, loader_cpus=0.5)


class Nodes:
    """A head without work, to which this process is connected, and nodes by role; those of `engine` have a GPU.

    Args:
        dashboard: what Ray's listing of actors needs.
    """

    def __init__(self, *, dashboard: bool = False) -> None:
        head = {"num_cpus": 0, "labels": {ROLE_LABEL: "head"}, "object_store_memory": STORE}
        head |= {"include_dashboard": dashboard, "dashboard_port": None}  # none: the next that is free
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._by_id: dict[str, Any] = {}
        self._roles: dict[str, str] = {}
        ray.init(address=self.cluster.address, logging_level="WARNING")

    def have(self, **counts: int) -> None:
        """So many nodes of each role, and no others, whatever an earlier test has left."""
        for node_id, role in list(self._roles.items()):
            if counts.get(role, 0) > 0:
                counts[role] -= 1
            else:
                self.lose(node_id)
        for role, count in counts.items():
            for _ in range(count):
                self.add(role)

    def add(self, role: str, *, cpus: int = 1) -> None:
        about = {"num_gpus": 1 if role == "engine" else 0, "labels": {ROLE_LABEL: role}, "object_store_memory": STORE}
        node = self.cluster.add_node(num_cpus=cpus, **about)
        self._by_id[node.node_id], self._roles[node.node_id] = node, role

    def lose(self, node_id: str) -> None:
        del self._roles[node_id]
        self.cluster.remove_node(self._by_id.pop(node_id), allow_graceful=False)
        wait_for(lambda: not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id))

    def one(self) -> str:
        """Id of a worker node."""
        return next(iter(self._roles))

    def drain(self, node_id: str, *, seconds: int) -> None:
        """As what watches for a provider's notice does: the node will be taken away after so many seconds."""
        command = ["drain-node", "--address", self.cluster.address, "--node-id", node_id]
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
        ray = Path(sys.executable).with_name("ray")
        subprocess.run([ray, *command, *reason, "--deadline-remaining-seconds", str(seconds)], check=True)

    def lose_where(self, folder: Path) -> threading.Thread:
        """In the background: the node of the process that waits in `folder`, as soon as one does.

        Once that process is no more there is a file `go`, for those who come there later.
        """

        def lose() -> None:
            wait_for((folder / "waits").exists)
            node, process = (folder / "waits").read_text().split()
            self.lose(node)
            wait_for(lambda: not runs(int(process)))
            (folder / "go").touch()

        losing = threading.Thread(target=lose, daemon=True)
        losing.start()
        return losing

    def role(self, node_id: str) -> str:
        return self._roles.get(node_id, "head")


def here() -> str:
    return str(ray.get_runtime_context().get_node_id())


def note(file: Path, line: str) -> None:
    with file.open("a") as lines:
        lines.write(f"{line}\n")


def wait_once(folder: Path) -> None:
    """The first process that comes here says where and which it is, and waits for a file `go`."""
    try:
        (folder / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return
    (folder / "name").write_text(f"{here()} {os.getpid()}")
    (folder / "name").rename(folder / "waits")
    wait_for((folder / "go").exists)


def runs(process: int) -> bool:
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # that of a dead one is empty until it is reaped
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def printed(file: Path) -> Iterator[Callable[[], str]]:
    """What is printed within the block, by processes on other nodes, too: Ray's own thread brings their lines a little
    later. It goes to a file: `capfd.readouterr` empties what it reads, and loses what that thread writes meanwhile."""
    with file.open("w", buffering=1) as out, redirect_stdout(out):
        yield file.read_text


def wait_for(condition: Callable[[], bool]) -> None:
    """Between two looks a little is slept; a test that hangs is ended by who runs it."""
    while not condition():
        time.sleep(0.05)
