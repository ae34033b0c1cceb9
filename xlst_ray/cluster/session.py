"""Joining a Ray cluster, or starting one that ends with the process."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data
import ray.util

from xlst_ray.cluster.options import ROLE_LABEL, PlaceOptions
from xlst_ray.cluster.stop import signals_kept
from xlst_ray.cluster.temporary import session_folder
from xlst_ray.errors import ConfigError

KNOCKED = (
    "something listens there: if it is Ray, does it want a token (RAY_AUTH_MODE=token, with RAY_AUTH_TOKEN or "
    "RAY_AUTH_TOKEN_PATH), and is it of this version?"
)


def connect(options: PlaceOptions) -> None:
    """Ray from here to the end of the process: the cluster it is in already, the one named, or one started here.

    Called where Ray is first needed, so that a run with nothing left to do does not wait for a cluster.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    if ray.is_initialized():
        return
    _quieten()
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    hint: str | None = None
    try:
        with signals_kept():
            if address == "local":
                _start_here(options)
            else:
                _knock(address)
                hint = KNOCKED
                ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, ValueError) as error:
        where = f"cluster.address={address}"
        raise ConfigError(f"cannot reach the Ray cluster ({error})", where=where, hint=hint) from None


def _knock(address: str) -> None:
    """Raises `OSError` where nobody listens at `host:port`: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _start_here(options: PlaceOptions) -> None:
    if options.by_role:
        raise ConfigError(
            f"by_role asks for nodes with the label {ROLE_LABEL}, and a cluster that is started here has none",
            where="cluster",
            hint="name the cluster of cluster.yaml or deploy/ with cluster.address, or leave by_role out",
        )
    with address_known():
        ray.init(
            address="local",
            num_cpus=options.cpus,
            include_dashboard=True,  # Ray Train's cleaner of stopped runs asks it which ones are alive
            logging_level=logging.WARNING,
            _temp_dir=session_folder(),
        )
    _refuse_what_does_not_fit(options)


@contextmanager
def address_known() -> Iterator[None]:
    """The cluster that starts within listens where the environment of all its processes says.

    Ray Train's cleaner would otherwise look through this machine's processes for one, and dies where it finds two.
    """
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    told = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{ray.util.get_node_ip_address()}:{port}"}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:  # what this process starts next is no part of the cluster
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _refuse_what_does_not_fit(options: PlaceOptions) -> None:
    """A cluster that is started here does not grow: what is more than it has would wait for ever."""
    there = ray.cluster_resources()
    for what, (kind, needed) in options.requests().items():
        if needed > there.get(kind, 0.0):
            ray.shutdown()
            raise ConfigError(
                f"{what} = {needed:g} {kind}s, but this machine has {there.get(kind, 0.0):g}",
                where="cluster",
                hint="ask for less, or name a larger cluster with cluster.address",
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
