"""A cluster of several nodes on this machine, for the tests of a file that want one: starting it takes a while."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from xlst_ray.cluster.session import address_known

sys.path.insert(0, str(Path(__file__).parent))
from simulated import Nodes


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    ray.shutdown()  # of a cluster that other tests have left
    with address_known():
        started = Nodes()
        yield started
    ray.shutdown()
    started.cluster.shutdown()


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What was printed so far, by processes on other nodes, too: Ray's own thread brings their lines a little later.

    `capfd.readouterr` empties what it reads and loses what that thread writes meanwhile; here nothing is emptied.
    """
    file = tmp_path / "said"
    monkeypatch.setattr(sys, "stdout", file.open("w", buffering=1))
    return file.read_text
