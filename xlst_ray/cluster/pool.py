"""A function over many items on the cluster, by Ray Data: as tasks, or on a fixed pool of actors that hold a model."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy

from xlst_ray import errors
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import connect
from xlst_ray.errors import XlstError
from xlst_ray.progress import Ticker

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
            return {"result": "", "error": json.dumps([type(error).__name__, error.what, error.where, error.hint])}


def map_items(
    title: str,
    unit: str,
    make: Callable[[], Work],
    items: Sequence[Any],
    cluster: ClusterOptions,
    *,
    pool: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    quiet: bool = False,
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

    Raises:
        XlstError: what the work raised.
    """
    if not items:
        return
    tick: Callable[[], None] = (lambda: None) if quiet else Ticker(title, len(items), unit).tick
    if pool == 0:
        work_here = make()
        for item in items:
            result = work_here(item)
            tick()
            yield result
        return
    connect(cluster)
    rows = ray.data.from_items([{"item": json.dumps(item)} for item in items], override_num_blocks=len(items))
    compute = {} if pool is None else {"compute": ActorPoolStrategy(size=min(pool, len(items)))}
    work = _Worker if pool is not None else _as_task(make)
    arguments = {} if pool is None else {"fn_constructor_args": (make,)}
    nodes = cluster.nodes("engine" if gpus else "data")
    results = rows.map(work, num_cpus=cpus, num_gpus=gpus or None, label_selector=nodes or None, **compute, **arguments)
    for row in results.iter_rows():
        if row["error"]:
            raise _rebuild(*json.loads(row["error"]))
        tick()
        yield json.loads(row["result"])


def _as_task(make: Callable[[], Work]) -> Callable[[dict[str, Any]], dict[str, str]]:
    def task(row: dict[str, Any]) -> dict[str, str]:
        return _Worker(make)(row)

    return task


def _rebuild(kind: str, what: str, where: str | None, hint: str | None) -> XlstError:
    found: type[XlstError] = getattr(errors, kind, errors.DataError)
    return found(what, where=where, hint=hint)
