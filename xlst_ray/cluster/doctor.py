"""What a job will need, looked at beforehand: each check says what is there, and what to do where it is not enough."""

import os
import platform
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import ray
import torch
from packaging.requirements import Requirement
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xlst_ray import storage
from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions, Role
from xlst_ray.cluster.session import connect
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import XlstError

SECONDS_FOR_A_NODE = 120
SECONDS_FOR_AN_ENGINE = 10.0
GIB = 2**30
STORAGE_ADVICE = "may this node (its role, its keys) read and write there? is the region right?"
ENGINE_ADVICE = "does the server run? may this node reach it? the URL ends where /models and /chat/completions begin"


class DoctorOptions(Section):
    """What is looked at."""

    workspace: Url | None = option(None, "folder or URL that jobs will write to: a file is written, read and deleted")
    engine: str | None = option(None, "URL of a translation server, as `http://host:8000/v1`")
    min_memory: float = option(4.0, "free memory that a node should have", unit="GiB", ge=0)
    min_disk: float = option(20.0, "free disk below Ray's folder that a node should have", unit="GiB", ge=0)
    cluster: ClusterOptions = option(ClusterOptions, "the cluster, as the jobs will have it; workers=0: none, no Ray")


@dataclass(frozen=True)
class Finding:
    """A check's outcome. `advice` is empty where all is well; `note`: it may be well, and does not count as failed."""

    check: str
    found: str
    advice: str = ""
    note: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.advice) and not self.note

    def __str__(self) -> str:
        status = "FAILED" if self.failed else "note" if self.note else "ok"
        line = f"{status:6}  {self.check}: {self.found}"
        return f"{line}\n        -> {self.advice}" if self.advice else line


def examine(options: DoctorOptions) -> Iterator[Finding]:
    """All checks, in the order in which one rests on another."""
    yield from check_packages()
    if options.cluster.workers == 0:
        yield from check_node("this machine", look_around(options), options, gpus=torch.cuda.device_count())
        return
    try:
        connect(options.cluster)
    except XlstError as error:
        yield Finding("cluster", error.what, error.hint or "is the address right, and does the cluster run?")
        return
    yield from check_cluster(options.cluster)
    yield check_authentication(os.environ.get("RAY_AUTH_MODE", ""), options.cluster)
    for name, gpus, facts in look_everywhere(options):
        yield from check_node(name, facts, options, gpus=gpus)


def check_packages() -> Iterator[Finding]:
    """The versions that pyproject.toml asks for."""
    wrong = []
    for text in metadata.requires("xlst-ray") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version} is not {wanted.specifier}")
    advice = "install them: pip install --editable ." if wrong else ""
    yield Finding("packages", ", ".join(wrong) or f"as pyproject.toml asks, Python {platform.python_version()}", advice)


def check_cluster(cluster: ClusterOptions) -> Iterator[Finding]:
    """What there is of CPUs and GPUs, and whether the roles that work is sent to have nodes."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    yield Finding("cluster", f"{len(nodes)} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs")
    wanted = cluster.workers * cluster.worker_gpus
    if wanted > total.get("GPU", 0):
        yield Finding(
            "GPUs to train on",
            f"{total.get('GPU', 0):g} now, workers x worker_gpus = {wanted:g}",
            "right where the cluster grows by itself (an autoscaler with a group of such nodes); else ask for fewer",
            note=True,
        )
    if cluster.by_role:
        there = {node["Labels"].get(ROLE_LABEL) for node in nodes}
        for role in get_args(Role):
            if role in there:
                yield Finding(f"nodes for {role}", "there")
            else:
                advice = f"right where the cluster grows by itself; else ray start --labels {ROLE_LABEL}={role}"
                yield Finding(f"nodes for {role}", "none", advice, note=True)


def check_authentication(mode: str, cluster: ClusterOptions) -> Finding:
    """Without a token, who reaches a cluster's ports runs code on it."""
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    if mode == "token":
        return Finding("authentication", "by token")
    if address == "local":
        return Finding("authentication", "a cluster of this machine alone")
    advice = "start every node with RAY_AUTH_MODE=token and one token (ray get-auth-token --generate)"
    return Finding("authentication", f"none here (RAY_AUTH_MODE={mode or 'not set'})", advice)


def look_everywhere(options: DoctorOptions) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(name, GPUs, what it finds about itself) of each node; one that does not answer in time finds `error`."""
    looks = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            role = node["Labels"].get(ROLE_LABEL)
            name = f"node {node['NodeManagerAddress']} {role or ''}".rstrip()
            look = _look.options(scheduling_strategy=here).remote(options)
            looks[look] = name, float(node["Resources"].get("GPU", 0))
    for look, (name, gpus) in looks.items():
        try:
            yield name, gpus, ray.get(look, timeout=SECONDS_FOR_A_NODE)
        except (ray.exceptions.RayError, TimeoutError) as error:
            yield name, gpus, {"error": str(error).splitlines()[0]}


def look_around(options: DoctorOptions) -> dict[str, Any]:
    """What this process sees: versions, GPUs, free memory and disk, whether storage and engine answer."""
    folder = os.environ.get("RAY_TMPDIR", "/tmp")
    workspace, engine = str(options.workspace), str(options.engine)
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "ray": ray.__version__},
        "cuda": torch.version.cuda,
        "memory": _free_memory() / GIB,
        "disk": shutil.disk_usage(folder).free / GIB,
        "storage": None if options.workspace is None else _problem(partial(probe_storage, workspace), STORAGE_ADVICE),
        "engine": None if options.engine is None else _problem(partial(probe_engine, engine), ENGINE_ADVICE),
    }


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # Ray is untyped here
def _look(options: DoctorOptions) -> dict[str, Any]:
    return look_around(options)


def check_node(name: str, facts: dict[str, Any], options: DoctorOptions, *, gpus: float) -> Iterator[Finding]:
    """What a node has, against what the jobs will want of it."""
    if "error" in facts:
        advice = "look at its Ray logs, or take it out of the cluster"
        yield Finding(name, f"does not answer ({facts['error']})", advice)
        return
    versions, own = facts["versions"], {"python": platform.python_version(), "ray": ray.__version__}
    differ = [f"{key} {versions[key]}, here {value}" for key, value in own.items() if versions[key] != value]
    found = ", ".join(f"{key} {value}" for key, value in versions.items())
    advice = "the same image on every node, and the same Python and Ray where you submit from" if differ else ""
    yield Finding(f"{name}, versions", ", ".join(differ) or found, advice)
    blind = gpus > 0 and facts["cuda"] is None
    advice = "install a torch with CUDA there: this one computes on CPUs alone" if blind else ""
    yield Finding(f"{name}, GPUs", f"{gpus:g}, torch for CUDA {facts['cuda']}" if gpus else "none", advice)
    for what, least in (("memory", options.min_memory), ("disk", options.min_disk)):
        free = facts[what]
        advice = "" if free >= least else f"{least:g} GiB are wanted (min_{what}): free some, or take a larger machine"
        yield Finding(f"{name}, free {what}", f"{free:.1f} GiB", advice)
    for what, target in (("storage", options.workspace), ("engine", options.engine)):
        if target is not None:
            found, advice = facts[what] or (target, "")
            yield Finding(f"{name}, {what}", found, advice)


def _problem(probe: Callable[[], None], advice: str) -> tuple[str, str] | None:
    """What a probe fails with and what to do about it; none where it does not fail."""
    try:
        probe()
    except XlstError as error:
        return str(error).partition("\n")[0], error.hint or advice
    except (OSError, pa.ArrowException) as error:
        return str(error).splitlines()[0], advice
    return None


def probe_storage(workspace: str) -> None:
    """Write, read and delete a file below a workspace. Raises what storage raises."""
    url = storage.join(workspace, f"{uuid.uuid4().hex}.probe")
    storage.write_bytes(url, url.encode())
    try:
        if storage.read_bytes(url) != url.encode():
            raise OSError(f"{url} does not hold what was written to it")
    finally:
        storage.delete(url)


def probe_engine(url: str) -> None:
    """Ask a server with OpenAI's interface for its models; one that wants a key answers, and that is enough.

    Raises:
        OSError: nobody answers, or something else does.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=SECONDS_FOR_AN_ENGINE):
            return
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise OSError(f"{url} answers with {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{url} does not answer ({error.reason})") from None
    except ValueError:
        raise OSError(f"{url} is no URL") from None


def _free_memory() -> int:
    """Bytes that new work may take; where the system does not tell (macOS), all there are."""
    facts = Path("/proc/meminfo")
    for line in facts.read_text().splitlines() if facts.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
