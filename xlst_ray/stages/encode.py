"""Shards -> the states of a frozen pretrained encoder, computed once and kept beside them for every training to read.

A shard's states are a file of the same split and name; a run that was killed makes those that are missing.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xlst_ray import storage
from xlst_ray.audio.decode import Wave, decode_flac
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.cluster.pool import map_items
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.encoders import PretrainedEncoder
from xlst_ray.model.pretrained import find_pretrained, fingerprint_of, load_pretrained
from xlst_ray.progress import say
from xlst_ray.shards.files import read_shard, shard_urls
from xlst_ray.shards.schema import SPLITS
from xlst_ray.shards.states import ROWS_TOGETHER, STATES_SCHEMA, states_url
from xlst_ray.stages.stage import Stage, finished
from xlst_ray.stages.states import EncoderOptions


class StateEncoder:
    """Waves to states, with the encoder of some options."""

    def __init__(self, options: EncoderOptions, *, threads: int = 1, gpu: bool = False) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if gpu else "cpu")
        self._batch = options.batch
        self.cut = 0  # utterances of the last call of which the encoder hears the beginning alone
        self._encoder: PretrainedEncoder = load_pretrained(_folder(options), options.layers).to(self._device)

    @classmethod
    def of_model(cls, about: dict[str, Any], place: str | None, batch: int, *, threads: int, gpu: bool) -> Self:
        """The encoder whose states a model reads (`about_model`), where training had it or in another place.

        Raises:
            DataError: another one is there, or none.
        """
        revision = about["revision"] if place is None else None
        options = EncoderOptions(path=place or about["path"], revision=revision, layers=about["layers"], batch=batch)
        found = fingerprint_of(_folder(options))
        if found != about["fingerprint"]:
            raise DataError(
                f"is another encoder than the one whose states the model reads ({found}, not {about['fingerprint']})",
                where=options.path,
                hint="name the right one with encoder=",
            )
        return cls(options, threads=threads, gpu=gpu)

    @property
    def longest(self) -> int | None:
        """Samples of a wave that are heard; none: all."""
        return self._encoder.longest

    @torch.inference_mode()
    def __call__(self, waves: Sequence[Wave]) -> list[Tensor]:
        """Waves (N,), float32 at 16 kHz -> states (S, D) of each, float16."""
        by_length = sorted(range(len(waves)), key=lambda place: len(waves[place]))
        found: dict[int, Tensor] = {}
        self.cut = 0 if self.longest is None else sum(len(wave) > self.longest for wave in waves)
        for first in range(0, len(by_length), self._batch):
            places = by_length[first : first + self._batch]
            features = [self._encoder.frontend(waves[place]) for place in places]
            lengths = torch.tensor([len(rows) for rows in features], device=self._device)
            encoded = self._encoder(pad_sequence(features, batch_first=True).to(self._device), lengths)
            for place, states, steps in zip(places, encoded.states.half().cpu(), encoded.lengths.tolist(), strict=True):
                found[place] = states[:steps]
        return [found[place] for place in range(len(waves))]


def describe_encoding(options: EncoderOptions, shards: str) -> Stage:
    """The stage of a shard folder's states: the same encoder at another path is the same stage.

    Raises:
        ConfigError: no encoder is named.
        DataError: the encoder or the shards are not there.
    """
    encoder = fingerprint_of(_folder(options))
    config = {"encoder": encoder, "layers": options.layers, "batch": options.batch}
    source = finished(shards, "corpus")
    return Stage(f"states-{source.config['corpus']['lang']}", config, {"shards": source.fingerprint}, version=1)


def encode(title: str, options: EncoderOptions, shards: str, folder: str, cluster: DecodingCluster) -> dict[str, Any]:
    """Write the states of every split of a shard folder below `folder`, going on from what is there; returns counts."""
    splits = [split for split in SPLITS if storage.list_files(storage.join(shards, split), ".parquet")]
    urls = [url for split in splits for url in shard_urls(shards, split)]
    threads, gpu = max(1, int(cluster.decoder_cpus)), cluster.decoder_gpus > 0
    done = list(
        map_items(
            title,
            "shards",
            partial(_ShardEncoder, options, folder, threads=threads, gpu=gpu),
            urls,
            cluster,
            pool=cluster.decoders,
            cpus=cluster.decoder_cpus,
            gpus=cluster.decoder_gpus,
            folder=folder,
        )
    )
    total = {name: sum(part[name] for part in done) for name in ("utterances", "steps", "bytes", "cut")}
    cut = f"; of {total['cut']} the encoder hears the first 30 s alone" if total["cut"] else ""
    say(f"{title}: {total['utterances']} utterances, {total['steps']} states, {total['bytes'] / 2**20:.0f} MB{cut}")
    about = {
        "path": options.path,
        "revision": options.revision,
        "layers": options.layers,
        "fingerprint": fingerprint_of(_folder(options)),
        "dim": max(part["dim"] for part in done),
    }
    return {**total, "about": about}


class _ShardEncoder:
    """Writes the states of one shard after another; the encoder is loaded for the first that is not there yet."""

    def __init__(self, options: EncoderOptions, folder: str, *, threads: int, gpu: bool) -> None:
        self._options, self._folder, self._threads, self._gpu = options, folder, threads, gpu
        self._encode: StateEncoder | None = None

    def __call__(self, shard: str) -> dict[str, int]:
        url = states_url(shard, self._folder)
        counts = f"{url.removesuffix('.parquet')}.counts.json"
        if not (storage.exists(url) and storage.exists(counts)):
            self._encode = self._encode or StateEncoder(self._options, threads=self._threads, gpu=self._gpu)
            rows = read_shard(shard, ["id", "audio"])
            states = self._encode([decode_flac(audio) for audio in rows["audio"].to_pylist()])
            steps, packed = [len(values) for values in states], [values.numpy().tobytes() for values in states]
            table = pa.table([rows["id"].to_pylist(), steps, packed], schema=STATES_SCHEMA)
            # As it is: it hardly gets smaller, and every epoch reads it.
            storage.write_table(url, table, row_group_size=ROWS_TOGETHER, compression="none")
            sizes = {"steps": sum(steps), "bytes": sum(map(len, packed)), "cut": self._encode.cut}
            storage.write_json(counts, {"utterances": len(states), **sizes, "dim": states[0].shape[1] if states else 0})
        found: dict[str, int] = storage.read_json(counts)
        return found


def _folder(options: EncoderOptions) -> Path:
    if options.path is None:
        raise ConfigError("no encoder is named", hint="set encoder.path, such as encoder.path=openai/whisper-base")
    return find_pretrained(options.path, options.revision)
