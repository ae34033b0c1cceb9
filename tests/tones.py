"""A language of tones: each letter is a tone of its own, so that a small model can learn to write down what it hears.

For the tests of batches and training, and for the processes that they start.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.audio.decode import encode_flac
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.index import Source, TargetText, build_index
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import Position
from xlst_ray.batches.source import PlainSource
from xlst_ray.shards.files import shard_name
from xlst_ray.shards.schema import ROW_GROUP_ROWS, SAMPLE_RATE, SHARD_SCHEMA
from xlst_ray.text.ids import SPECIALS

LETTERS = "abcdefgh"
VOCABULARY = len(SPECIALS) + len(LETTERS)
NO_MASKS = AugmentOptions(policy="none")


def encode(text: str) -> list[int]:
    return [len(SPECIALS) + LETTERS.index(letter) for letter in text]


def wave(text: str, seed: int = 0, letter_seconds: float = 0.16) -> np.ndarray:
    """The letters of a text as tones with a little noise, (N,) float32; a blank is silence."""
    rng = np.random.default_rng([seed, *text.encode()])
    time = np.arange(int(letter_seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitches = [0 if letter == " " else 300 * 1.5 ** LETTERS.index(letter) for letter in text.lower()]  # Hz
    sound = np.concatenate([np.sin(2 * np.pi * pitch * time) for pitch in pitches])
    return (0.3 * sound + 0.01 * rng.standard_normal(len(sound))).astype(np.float32)


def row(name: str, text: str, sound: np.ndarray) -> dict[str, object]:
    return {
        "id": name,
        "audio": encode_flac(sound),
        "duration": len(sound) / SAMPLE_RATE,
        "text": text,
        "lang": "xx",
        "speaker": "",
        "group": "",
        "translations": [],
    }


def table(rows: Sequence[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SHARD_SCHEMA)


def write_shards(folder: Path, split: str, *shards: Sequence[str], row_group: int = ROW_GROUP_ROWS) -> str:
    """One shard for each sequence of texts, `folder/split/shard-NNNNN.parquet`; returns the folder."""
    for number, texts in enumerate(shards):
        rows = [row(f"{split}-{number}-{i}", text, wave(text, seed=i)) for i, text in enumerate(texts)]
        url = storage.join(str(folder), split, shard_name(number))
        storage.write_table(url, table(rows), row_group_size=row_group)
    return str(folder)


def loader(
    shards: str,
    split: str = "train",
    options: BatchOptions | None = None,
    augment: AugmentOptions | None = None,
    seed: int = 0,
    threads: int = 1,
) -> BatchLoader:
    options = options or BatchOptions()
    index = build_index(Source(shards, split), TargetText(str.lower, encode), options)
    return BatchLoader(index, options, augment=augment, seed=seed, threads=threads)


def train_batches(loader: BatchLoader, epoch: int, first: int = 0, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """A rank's batches of an epoch that is one window, from the `first` of each rank on."""
    assert loader.plan(epoch, world).windows == 1
    start = Position(epoch, first * world)
    return (batch for batch, _ in loader.window_batches(start, ranks=[rank], world=world))


def source(
    shards: str,
    options: BatchOptions,
    augment: AugmentOptions = NO_MASKS,
    *,
    ranks: Sequence[int] = (0,),
    world: int = 1,
) -> PlainSource:
    return PlainSource(loader(shards, "train", options, augment), loader(shards, "dev", options), ranks, world)
