"""How many trials a cluster holds at a time: what does not fit is refused at once, with the arithmetic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xlst_ray.errors import ConfigError

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has, `CPU` and `GPU`, and its labels."""

    resources: Resources
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Need:
    """Processes that a trial has at a time, none of which may be split over nodes.

    Attributes:
        what: where the figures come from, in the words of the configuration.
        processes: how many.
        each: what one of them asks of its node, `CPU` and `GPU`.
        labels: that its node must have.
    """

    what: str
    processes: int
    each: Resources
    labels: Mapping[str, str] = field(default_factory=dict)


def processes_on(node: Node, need: Need) -> int:
    """How many processes a node holds."""
    if not need.labels.items() <= node.labels.items():
        return 0
    wanted = {kind: amount for kind, amount in need.each.items() if amount}
    return min(
        (math.floor(node.resources.get(kind, 0.0) / amount + 1e-9) for kind, amount in wanted.items()), default=0
    )


def trials_at_a_time(needs: Sequence[Need], nodes: Sequence[Node]) -> int:
    """Trials that fit on the nodes together, whichever of their needs they are at."""
    return min(sum(processes_on(node, need) for node in nodes) // need.processes for need in needs)


def choose_concurrency(
    needs: Sequence[Need], nodes: Sequence[Node], wanted: int | None, trials: int, *, grows: bool
) -> int:
    """Trials to run at a time.

    Args:
        wanted: what the configuration asks for; none: as many as fit.
        trials: how many there are.
        grows: whether the cluster may have more nodes later, so that what is asked for is not refused.

    Raises:
        ConfigError: a trial, or as many as are wanted, fit on no nodes that there are.
    """
    fits = trials_at_a_time(needs, nodes)
    if grows and wanted is not None:
        return min(wanted, trials)
    if fits < (wanted or 1):
        tightest = min(needs, key=lambda need: trials_at_a_time([need], nodes))
        each = ", ".join(f"{amount:g} {kind}s" for kind, amount in tightest.each.items() if amount)
        there = "; ".join(_describe(node, tightest) for node in nodes)
        raise ConfigError(
            f"{wanted or 1} trials at a time need {wanted or 1} x {tightest.processes} processes of {each} "
            f"({tightest.what}), but the nodes have {there}: {fits} trials fit",
            where="search.concurrent",
            hint="ask for less, or name a larger cluster with cluster.address"
            + (", or set search.concurrent where the cluster grows" if grows else ""),
        )
    return min(fits if wanted is None else wanted, trials)


def _describe(node: Node, need: Need) -> str:
    shown = ", ".join(f"{node.resources.get(kind, 0.0):g} {kind}s" for kind in need.each)
    labels = " ".join(f"{key}={node.labels.get(key, '')}" for key in need.labels)
    return f"{shown} ({labels})" if labels else shown
