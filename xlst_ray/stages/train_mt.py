"""Parallel text -> a small translation model in an ordinary transformers folder."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.train import run_training
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError
from xlst_ray.mt.lm import LMOptions, build_lm, load_lm, save_lm, train_tokenizer
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.mt.lm_task import LMTask
from xlst_ray.mt.pairs import SOURCE, Pair, PairsOptions, read_pairs
from xlst_ray.progress import say
from xlst_ray.train.checkpoint import load_weights
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import Task

PAIRS_FILE = "pairs.parquet"
INIT_FOLDER = "init"


class MTOptions(Section):
    """A translation model and the sentence pairs it learns from."""

    pairs: dict[str, PairsOptions] = option({}, "sources of sentence pairs by name")
    model: LMOptions = option(LMOptions, "size of the model")
    train: TrainOptions = option(TrainOptions, "optimisation; ctc_weight is not used")
    batch_tokens: int = option(2000, "tokens of a batch of one worker, padding included", unit="tokens", ge=16)
    dev_pairs: int = option(200, "pairs held back to validate on", unit="pairs", ge=1)

    def with_shards(self, folder: str) -> "MTOptions":
        """With the shard folder of the experiment's source language wherever pairs of kind shards name `source`."""
        pairs = {
            name: part.replace(path=folder) if part.kind == "shards" and part.path == SOURCE else part
            for name, part in self.pairs.items()
        }
        return self.replace(pairs=pairs)

    def training_config(self, seed: int, ranks: int) -> dict[str, Any]:
        """What decides the model, its sentence pairs apart."""
        config = self.identity()
        del config["pairs"], config["train"]["log_every"]
        return {**config, "seed": seed, "ranks": ranks}


@dataclass(frozen=True)
class MTJob:
    """A `TrainJob`: what every rank needs to build its task. All of it lies in the stage folder."""

    title: str
    options: TrainOptions
    seed: int
    folder: str
    batch_tokens: int
    dev_pairs: int
    info: LMInfo

    def build(self, world: World, *, streaming: bool) -> Task[Any]:
        """Sentence pairs are few and small: every rank holds them all, streaming or not."""
        with storage.local_folder(storage.join(self.folder, INIT_FOLDER)) as init:
            model, tokenizer = load_lm(init)
        table = storage.read_table(storage.join(self.folder, PAIRS_FILE))
        pairs = list(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
        task = LMTask(
            model,
            tokenizer,
            self.info,
            pairs[self.dev_pairs :],
            pairs[: self.dev_pairs],
            seed=self.seed,
            max_tokens=self.batch_tokens,
            label_smoothing=self.options.label_smoothing,
            ranks=world.shares,
            world=world.planned,
        )
        if task.dropped and world.rank == 0:
            say(f"{self.title}: {task.dropped} sentence pairs are longer than the model's positions and left out")
        return task


def collect_pairs(options: MTOptions, source: str, target: str) -> list[Pair]:
    """The distinct sentence pairs of all sources, shuffled together: the first ones are held back to validate on."""
    pairs = list(dict.fromkeys(p for part in options.pairs.values() for p in read_pairs(part, source, target)))
    random.Random(len(pairs)).shuffle(pairs)
    return pairs


def train_mt(
    title: str,
    options: MTOptions,
    pairs: Sequence[Pair],
    info: LMInfo,
    seed: int,
    folder: str,
    cluster: ClusterOptions,
) -> dict[str, Any]:
    """Train a translation model into a stage folder and return its counts.

    Raises:
        DataError: no more pairs than are held back to validate on.
        TrainingError: the loss is no number.
    """
    if len(pairs) <= options.dev_pairs:
        raise DataError(
            f"{title}: {len(pairs)} sentence pairs are too few, with {options.dev_pairs} held back to validate on",
            hint="name sources of sentence pairs under pairs, or lower dev_pairs",
        )
    say(f"{title}: {len(pairs)} sentence pairs {info.source}-{info.target}")
    tokenizer = train_tokenizer((side for pair in pairs for side in pair), options.model)
    model = build_lm(options.model, tokenizer, seed)
    _save(model, tokenizer, info, storage.join(folder, INIT_FOLDER))
    sides = {"source": [pair[0] for pair in pairs], "target": [pair[1] for pair in pairs]}
    storage.write_table(storage.join(folder, PAIRS_FILE), pa.table(sides))
    job = MTJob(title, options.train, seed, folder, options.batch_tokens, options.dev_pairs, info)
    trained = run_training(job, folder, cluster)
    load_weights(model, trained.weights)
    _save(model, tokenizer, info, folder)
    storage.write_json(storage.join(folder, "training.json"), {"validations": trained.state.validations})
    parameters = sum(p.numel() for p in model.parameters())
    seconds = {"training_seconds": round(trained.state.seconds, 1)}
    return {"pairs": len(pairs), "parameters": parameters, **seconds, "dev": trained.state.validations[-1]}


def _save(model: Any, tokenizer: Any, info: LMInfo, folder: str) -> None:
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        save_lm(Path(temporary), model, tokenizer, info)
        storage.copy_folder(temporary, folder)
