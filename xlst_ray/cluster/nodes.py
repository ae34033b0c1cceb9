"""The nodes of a cluster: which are there, and whether they all see the folder that is worked in."""

import os
import uuid

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xlst_ray import storage
from xlst_ray.errors import ConfigError

SECONDS_TO_LOOK = 60


def alive() -> dict[str, str]:
    """Address of each node that is there, by its id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def refuse_unseen(folder: str) -> None:
    """Refuse a local folder that some node does not have: what is written there would be lost to the others.

    A file is put into the folder, and every other node looks for it: a shared file system passes, wherever it is. A
    node that does not answer in time is not held up against it.

    Raises:
        ConfigError: names the nodes that do not see it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = {node: address for node, address in alive().items() if node != here}
    if not others or not storage.is_local(folder):
        return
    probe = storage.join(folder, f"{uuid.uuid4().hex}.probe")
    storage.write_bytes(probe, b"")
    try:
        path = storage.locate(probe)[1]
        looks = [_sees.options(scheduling_strategy=_on(node)).remote(path) for node in others]
        ready, _ = ray.wait(looks, num_returns=len(looks), timeout=SECONDS_TO_LOOK)
        sees = {look: bool(ray.get(look)) for look in ready}
    finally:
        storage.delete(probe)
    blind = [address for look, address in zip(looks, others.values(), strict=True) if not sees.get(look, True)]
    if blind:
        raise ConfigError(
            f"is a folder of this machine, and {len(blind)} of {len(others) + 1} nodes do not see it "
            f"({', '.join(sorted(set(blind))[:3])})",
            where=folder,
            hint="use a URL (s3://, gs://) or a folder on a file system that all nodes share",
        )


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # Ray is untyped here
def _sees(path: str) -> bool:
    return os.path.exists(path)


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=True)
