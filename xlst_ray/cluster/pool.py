"""A function over many items on the cluster, by Ray Data: as tasks, or on a fixed pool of actors that hold a model."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy

from xlst_ray import errors
from xlst_ray.cluster.nodes import alive, refuse_unseen
from xlst_ray.cluster.options import PlaceOptions, Role
from xlst_ray.cluster.session import connect
from xlst_ray.errors import XlstError
from xlst_ray.progress import Ticker, say

Work = Callable[[Any], Any]


class _Worker:
    """The actor: makes its work once, then does it item by item.

    Our own errors come back as rows: Ray keeps the text of an exception, not the exception.
    """

    def __init__(self, make: Callable[[], Work]) -> None:
        self._make = make
        self._work: Work | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        try:
            self._work = self._work or self._make()
            return {"result": json.dumps(self._work(json.loads(row["item"]))), "error": ""}
        except XlstError as error:
            return {"result": "", "error": raised(error)}


def map_items(
    title: str,
    unit: str,
    make: Callable[[], Work],
    items: Sequence[Any],
    cluster: PlaceOptions,
    *,
    pool: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    quiet: bool = False,
    folder: str | None = None,
    role: Role | None = None,
) -> Iterator[Any]:
    """`make()(item)` for every item, in any order, with progress lines.

    Args:
        title, unit: what the progress lines say.
        make: makes the work in the process that does it, once for each actor or task; picklable.
        items: JSON values, as the results are: few and small (URLs, numbers), never data.
        pool: actors that each make their work once; none: tasks, for work that is cheap to make; 0: this process,
            one item after another.
        cpus, gpus: of each task or actor.
        quiet: no progress lines, where the caller prints its own.
        folder: where the work writes, which every node must see.
        role: of the nodes; none: engine with GPUs, else data.

    Raises:
        XlstError: what the work raised.
        ConfigError: a node does not see the folder.
    """
    if not items:
        return
    tick: Callable[[], None] = (lambda: None) if quiet else Ticker(title, len(items), unit).tick
    if pool == 0:
        work_here = make()
        results: Iterator[Any] = (work_here(item) for item in items)
    else:
        connect(cluster)
        if folder is not None:
            refuse_unseen(folder)
        nodes = cluster.nodes(role or ("engine" if gpus else "data"))
        results = _map_rows(
            title, make, items, pool, num_cpus=cpus, num_gpus=gpus or None, label_selector=nodes or None
        )
    for result in results:
        tick()
        yield result


def do_items(*given: Any, **named: Any) -> None:
    """`map_items` for work that leaves files and returns nothing."""
    for _ in map_items(*given, **named):
        pass


def _map_rows(
    title: str, make: Callable[[], Work], items: Sequence[Any], pool: int | None, **each: Any
) -> Iterator[Any]:
    """The results on Ray; `each`: what a task or an actor asks for."""
    there = alive()
    rows = ray.data.from_items([{"item": json.dumps(item)} for item in items], override_num_blocks=len(items))
    if pool is None:
        rows = rows.map(_as_task(make), **each)
    else:
        rows = rows.map(
            _Worker, compute=ActorPoolStrategy(size=min(pool, len(items))), fn_constructor_args=(make,), **each
        )
    for row in rows.iter_rows():
        if row["error"]:
            raise rebuild(row["error"])
        yield json.loads(row["result"])
    if lost := there.keys() - alive().keys():
        addresses = ", ".join(there[node] for node in lost)
        say(f"{title}: {len(lost)} nodes went away meanwhile ({addresses}); what they were at was done on others")


def _as_task(make: Callable[[], Work]) -> Callable[[dict[str, Any]], dict[str, str]]:
    def task(row: dict[str, Any]) -> dict[str, str]:
        return _Worker(make)(row)

    return task


def raised(error: XlstError) -> str:
    """An error of ours as text, for a row: Ray keeps the text of an exception, not the exception."""
    return json.dumps([type(error).__name__, error.what, error.where, error.hint])


def rebuild(text: str) -> XlstError:
    """The error that `raised` wrote down."""
    kind, what, where, hint = json.loads(text)
    found: type[XlstError] = getattr(errors, kind, errors.DataError)
    return found(what, where=where, hint=hint)
