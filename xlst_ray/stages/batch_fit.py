"""The largest batches that fit: searched on the device before the first epoch, and kept in the training's folder."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.capacity import Table, bounds_of, search_table
from xlst_ray.batches.index import Index
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import map_items
from xlst_ray.cluster.train import TrainJob, this_device
from xlst_ray.progress import say
from xlst_ray.train.memory import Memory
from xlst_ray.train.step import AUTOCAST_TO, World

FILE: Final = "batches.json"


def fit_batches(
    job: TrainJob, index: Index, options: BatchOptions, augment: AugmentOptions, folder: str, cluster: ClusterOptions
) -> BatchOptions:
    """The options with the table that `options.fit` asks for: that of `FILE` where training goes on.

    Raises:
        ConfigError: one utterance does not fit, or nobody said what memory a CPU's process has.
    """
    if not options.fit:
        return options
    url = storage.join(folder, FILE)
    if not storage.exists(url):
        make = partial(_searcher, job, options, cluster.worker_threads)
        pool, gpus = min(1, cluster.workers), cluster.worker_gpus
        found = map_items(
            job.title, "search", make, [bounds_of(index, augment)], cluster, pool=pool, cpus=cluster.worker_cpus,
            gpus=gpus, quiet=True, folder=folder if pool else None, role="train",
        )  # fmt: skip
        storage.write_json(url, next(iter(found)))
    read = storage.read_json(url)
    table: Table = tuple((frames, tokens, most) for frames, tokens, most in read["table"])
    rows = "\n".join(f"  {frames:8} {tokens:8} {most:12}" for frames, tokens, most in table)
    say(f"{job.title}: the largest batches that fit {read['memory']}\n  frames   tokens   utterances\n{rows}")
    return options.replace(fit=False, table=table)


def _searcher(job: TrainJob, options: BatchOptions, threads: int) -> Callable[[Any], Any]:
    """The work of the process that tries batches."""
    device = this_device()
    torch.set_num_threads(threads)
    world = replace(World(), device=device, autocast_to=AUTOCAST_TO[job.options.precision])
    memory = Memory(job.build(world, streaming=False), job.options, world, options.memory)

    def search(bounds: list[list[int]]) -> dict[str, Any]:
        shapes = [(frames, tokens) for frames, tokens in bounds]
        return {"memory": memory.told, "table": search_table(shapes, memory.fits, options.max_utterances)}

    return search
