"""What a cluster adds to the work: nodes side by side, and how many items a second one driver hands out.

Nodes are simulated on this machine. In the first part the engine sleeps, so that two cores are not the limit: 1, 2 and
4 nodes with an engine each translate as many buckets a node. Efficiency is the time in which the engines slept over the
time that they were there for, from the first call to the last. In the second the work is nothing: what is left is what
the driver, and the head's own services, do for an item; and batches that are made once go from a loader on one node to
a process on another, as in training, through both object stores. `NODE_BUCKETS` sets the buckets a node: 32 by default.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from harness import Row
from processes import TICKS
from ray.cluster_utils import Cluster

from xlst_ray import storage
from xlst_ray.batches.batch import Batch
from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.cluster.session import quieten_data
from xlst_ray.cluster.stream import BLOCK_BYTES
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.source_texts import prepare_texts
from xlst_ray.stages.stage import StageResult
from xlst_ray.stages.translate import Wanted, translate

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have this folder on their path

BUCKETS = int(os.environ.get("NODE_BUCKETS", "32"))
SENTENCES = 64  # of a bucket
SLEEP = 3.0  # seconds of a bucket: an engine that translates 1,000 sentences in it is a fast one
STORE = 256 * 2**20
BATCHES, WINDOWS = 800, 20  # 2 GB, in as many portions of the loader
ITEMS = (500, 4000)  # the difference is what counts: starting is apart


def bench() -> list[Row]:
    rows = [_side_by_side(nodes) for nodes in (1, 2, 4)]
    return [*rows, *_handing_out(), _through_the_object_store()]


@contextmanager
def _nodes(count: int) -> Iterator[Cluster]:
    head = {"num_cpus": 0, "labels": {ROLE_LABEL: "head"}, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, labels={ROLE_LABEL: "data"}, object_store_memory=STORE)
        ray.init(address=cluster.address, logging_level="ERROR")
        quieten_data()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


class _Sleeps:
    """An engine that takes its time and none of the processor's."""

    def __init__(self, log: Path, target: str) -> None:
        self._log = log

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        began = time.time()
        time.sleep(SLEEP)
        with self._log.open("a") as lines:
            lines.write(json.dumps([began, time.time()]) + "\n")
        return [Translation(text.upper(), "ok") for text in texts]


def _side_by_side(count: int) -> Row:
    buckets = BUCKETS * count
    with tempfile.TemporaryDirectory() as root, _nodes(count):
        sentences = [f"sentence {number}" for number in range(buckets * SENTENCES)]
        columns = {"audio": b"", "duration": 1.0, "lang": "en", "speaker": "", "group": "", "translations": []}
        shard = f"{root}/shards/train/shard-00000.parquet"
        rows = [{"id": text, "text": text, **columns} for text in sentences]
        storage.write_table(shard, pa.Table.from_pylist(rows, SHARD_SCHEMA))
        cluster = ClusterOptions(by_role=True, translators=count, translator_cpus=1)
        stage = StageResult(f"{root}/shards", "prepare", "bench", {}, {}, 0.0, reused=True)
        texts, _ = prepare_texts(stage, [shard], len(rows), buckets, root, cluster)
        log, kept = Path(root, "log"), Translations(f"{root}/kept")
        wanted, used = [Wanted("translate", "fi", kept, "bench")], time.process_time()
        translate(texts, wanted, partial(_Sleeps, log), PriceOptions(), cluster)
        used = time.process_time() - used
        if kept.read("")["text"].num_chunks == 0 or len(kept.read("")) != len(sentences):
            raise AssertionError("a sentence was lost or translated twice")
        calls = [json.loads(line) for line in log.read_text().splitlines()]
    wall = max(end for _, end in calls) - min(began for began, _ in calls)
    efficiency = sum(end - began for began, end in calls) / (count * wall)
    return Row(
        f"{BUCKETS} buckets a node, of {SLEEP:g} s each",
        f"{count} nodes",
        buckets,
        "buckets",
        (wall,),
        (used,),
        note=f"efficiency {efficiency:.3f}; CPU s are the driver's",
    )


def _nothing() -> Work:
    return lambda item: item


def _handing_out() -> list[Row]:
    """Driver and head, in CPU-seconds of so many items: the slope between few and many."""
    kinds: dict[str, dict[str, Any]] = {"tasks (a shard of prepare)": {}, "a pool of actors (a bucket)": {"pool": 2}}
    rows = []
    with _nodes(2) as cluster:
        head = {"the driver": os.getpid(), "the head's GCS": _process(cluster, "gcs_server")}
        options = ClusterOptions(by_role=True)
        for kind, more in kinds.items():
            few, many = (_cpu_of(head, partial(_map, count, options, more)) for count in ITEMS)
            items = ITEMS[1] - ITEMS[0]
            for name in head:
                cpu, wall = many[name] - few[name], many["wall"] - few["wall"]
                note = f"{1000 * cpu / items:.2f} ms an item"
                rows.append(Row(f"handing out, {kind}", name, items, "items", (wall,), (cpu,), note=note))
    return rows


def _ready(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Batches of 32 utterances of 5 s, as a loader hands them over."""
    features = np.zeros((32, 500, 80), np.float16)
    batch = Batch(tuple(map(str, range(32))), features, np.full(32, 500), np.zeros((32, 40), np.int64), np.full(32, 40))
    for _ in range(BATCHES // WINDOWS):
        yield {name: [value] for name, value in batch.to_row().items()}


def _through_the_object_store() -> Row:
    with _nodes(1):
        windows = ray.data.from_items([{"window": number} for number in range(WINDOWS)], override_num_blocks=WINDOWS)
        batches = windows.map_batches(_ready, batch_size=1, num_cpus=1)
        batches.context.target_max_block_size = BLOCK_BYTES
        wall, cpu, size, seen = time.perf_counter(), time.process_time(), 0, 0
        for row in batches.iter_rows():
            size, seen = size + Batch.from_row(row).features.nbytes, seen + 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if seen != BATCHES:
        raise AssertionError(f"{seen} batches came of {BATCHES}")
    note = f"{size / 2**20 / cpu:.0f} MiB per CPU-s, {size / 2**20 / wall:.0f} MiB a second"
    return Row("batches of 32 from another node", "a training process", BATCHES, "batches", (wall,), (cpu,), note=note)


def _map(count: int, options: ClusterOptions, more: dict[str, Any]) -> None:
    found = sorted(map_items("bench", "items", _nothing, range(count), options, cpus=0.5, quiet=True, **more))
    if found != list(range(count)):
        raise AssertionError("an item was lost or done twice")


def _cpu_of(processes: dict[str, int], work: Callable[[], None]) -> dict[str, float]:
    before, began = {name: _seconds(pid) for name, pid in processes.items()}, time.perf_counter()
    work()
    wall = time.perf_counter() - began
    return {name: _seconds(pid) - before[name] for name, pid in processes.items()} | {"wall": wall}


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _process(cluster: Cluster, kind: str) -> int:
    (found,) = cluster.head_node.all_processes[kind]
    return int(found.process.pid)
