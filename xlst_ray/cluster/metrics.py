"""Counters of the work as Ray metrics, which Ray exports to Prometheus and its dashboard beside its own.

    xlst_rows_total                 rows made into shards, sentences of engines, by `outcome`: `ok`, or why not
    xlst_audio_hours_total          hours of speech that became shards
    xlst_tokens_total               target tokens: trained on, or written by an engine
    xlst_data_wait_seconds_total    what rank 0 of a training waited for data

All are tagged with `run` and `stage`, as structured logs are.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

import ray
from ray.util.metrics import Counter

from xlst_ray.progress import where_we_are

Name = Literal["rows", "audio_hours", "tokens", "data_wait_seconds"]
MEANINGS: Final[dict[Name, str]] = {
    "rows": "rows made into shards, sentences of engines, by outcome: ok, or why not",
    "audio_hours": "hours of speech that became shards",
    "tokens": "target tokens that were trained on, or that an engine wrote",
    "data_wait_seconds": "seconds that rank 0 of a training waited for data",
}


def count(name: Name, value: float, *, outcome: str = "") -> None:
    """Add to a counter, where this process is in a cluster; elsewhere there is nobody to read it."""
    if value > 0 and ray.is_initialized():
        _counter(name).inc(value, {**where_we_are(), "outcome": outcome})


def count_rows(ok: int, others: Mapping[str, int]) -> None:
    """Rows that are done, and the others by reason."""
    for outcome, number in {"ok": ok, **others}.items():
        count("rows", number, outcome=outcome)


@cache
def _counter(name: Name) -> Counter:
    return Counter(f"xlst_{name}", description=MEANINGS[name], tag_keys=("run", "stage", "outcome"))
