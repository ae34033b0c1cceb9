"""A cluster of several nodes on this machine, for the tests of a file that want one: starting it takes a while."""

import sys
from collections.abc import Iterator
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
