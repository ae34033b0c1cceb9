"""Joining a Ray cluster, or starting one for the time of a job."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import ConfigError


@contextmanager
def connected(options: ClusterOptions) -> Iterator[None]:
    """Ray for the block: the one this process is in already, the one named, or one started here and stopped after.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    _quieten()
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        if address == "local":
            _start_here(options)
        else:
            ray.init(address=address, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"cannot reach the Ray cluster ({error})", where=f"cluster.address={address}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _start_here(options: ClusterOptions) -> None:
    ray.init(
        address="local",
        num_cpus=options.cpus or os.cpu_count(),
        include_dashboard=True,  # Ray Train's cleaner of stopped runs asks it which ones are alive
        logging_level=logging.WARNING,
        # A folder of its own: stale files of another cluster break a start. Short: it holds sockets, whose paths are.
        _temp_dir=tempfile.mkdtemp(prefix="xr-", dir="/tmp"),
    )


def _quieten() -> None:
    """Leave the terminal to our own progress lines; Ray's logs stay in its session folder."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    quieten_data()


def quieten_data() -> None:
    """The same for Ray Data, in every process that runs a dataset."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
