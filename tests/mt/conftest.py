"""A miniature shard folder, and a translation model trained in seconds: colour, thing and place, in another order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest
import torch

import xlst_ray.audio._torchaudio  # noqa: F401  mends what transformers imports, before a test imports transformers
from xlst_ray import storage
from xlst_ray.shards.files import shard_name
from xlst_ray.shards.schema import SHARD_SCHEMA

Row = tuple[str, Mapping[str, str]]  # transcript, translations


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[..., str]:
    """Write shards of one split from lists of rows; returns the shard folder."""

    def write(*shards: Sequence[Row], split: str = "train", lang: str = "cs", name: str = "shards") -> str:
        folder = str(tmp_path / name)
        for index, rows in enumerate(shards):
            table = pa.Table.from_pylist(
                [
                    {
                        "id": f"{split}-{index}-{number}",
                        "audio": b"",
                        "duration": 1.0,
                        "text": text,
                        "lang": lang,
                        "speaker": "",
                        "group": "",
                        "translations": list(translations.items()),
                    }
                    for number, (text, translations) in enumerate(rows)
                ],
                schema=SHARD_SCHEMA,
            )
            storage.write_table(storage.join(folder, split, shard_name(index)), table)
        return folder

    return write


COLOURS = {"rudý": "rood", "modrý": "blauw", "bílý": "wit", "nový": "nieuw", "starý": "oud", "malý": "klein"}
THINGS = {"dům": "huis", "stůl": "tafel", "vůz": "wagen", "strom": "boom", "klíč": "sleutel", "zámek": "slot"}
PLACES = {"doma": "thuis", "venku": "buiten", "tady": "hier", "tam": "daar", "dole": "onder", "nahoře": "boven"}


def toy_pairs() -> list[tuple[str, str]]:
    return [
        (f"{colour} {thing} {place}", f"{PLACES[place]} {THINGS[thing]} {COLOURS[colour]}")
        for colour, thing, place in product(COLOURS, THINGS, PLACES)
    ]


@dataclass(frozen=True)
class Trained:
    folder: Path
    unseen: list[tuple[str, str]]
    losses: list[float]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from xlst_ray.mt.lm import LMOptions, build_lm, save_lm, train_tokenizer
    from xlst_ray.mt.lm_info import LMInfo
    from xlst_ray.mt.lm_task import LMTask
    from xlst_ray.train.loop import Observer, fit
    from xlst_ray.train.options import TrainOptions

    torch.set_num_threads(1)
    pairs = toy_pairs()
    unseen, seen = pairs[::9], [pair for index, pair in enumerate(pairs) if index % 9]
    options = LMOptions(dim=64, layers=2, heads=2, ffn=128, vocabulary=400, dropout=0.0, max_length=48)
    tokenizer = train_tokenizer((side for pair in seen for side in pair), options)
    info = LMInfo("cs", "nl")
    task = LMTask(build_lm(options, tokenizer, seed=0), tokenizer, info, seen, unseen, max_tokens=800)
    losses: list[float] = []
    train = TrainOptions(updates=150, lr=5e-3, warmup=30, clip_norm=1.0, validate_every=150, log_every=30)
    observer = Observer(lambda progress: losses.append(progress.logs["nll"]), lambda folder, state: None)
    fit(task, train, tmp_path_factory.mktemp("checkpoints"), observer, seed=0)
    folder = tmp_path_factory.mktemp("mt") / "model"
    save_lm(folder, task.model, tokenizer, info)
    return Trained(folder, unseen, losses)
