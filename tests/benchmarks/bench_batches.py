"""FLAC in shards to padded batches of features: one epoch in one process, each in the peers' own shards.

The plain loop is the floor: files in their order, a batch of every 32, nothing shuffled and nothing bucketed.
"""

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import soundfile
import tones
import torch
from harness import Row, compare
from peers import peer
from torch.nn.utils.rnn import pad_sequence

from xlst_ray import storage
from xlst_ray.audio.fbank import Fbank, utterance_cmvn
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import START
from xlst_ray.shards.files import shard_urls

UTTERANCES, SHARDS = 1024, 4
MAX_FRAMES = 16_000


class Epoch(NamedTuple):
    """What came out: ids in order of their names, and the share of padding."""

    ids: tuple[str, ...]
    padding: float


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards = _write(folder / "ours")
        sides: dict[str, Callable[[], Epoch]] = {"ours": _ours(shards), "plain loop, unbucketed": _plain(shards)}
        lhotse, name = peer("lhotse", "lhotse")
        if lhotse is not None:
            sides[f"{name}: Shar, DynamicBucketingSampler, its Fbank"] = _lhotse(lhotse, shards, folder / "shar")
        webdataset, name = peer("webdataset", "webdataset")
        if webdataset is not None:
            sides[f"{name}: tar, DataLoader, our Fbank"] = _webdataset(webdataset, shards, folder / "tar")
        return compare(
            f"bytes to batches: {UTTERANCES} utterances of 2 to 10 s, each once",
            sides,
            amount=UTTERANCES,
            unit="utterances",
            equal=lambda one, other: one.ids == other.ids,
            runs=3,
            notes={name: f"{work().padding:.1%} padding" for name, work in sides.items()},
        )


def _write(folder: Path) -> str:
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(1.5, 0.4, UTTERANCES).clip(2, 10)
    each = UTTERANCES // SHARDS
    for shard in range(SHARDS):
        rows = []
        for number in range(shard * each, (shard + 1) * each):
            wave = tones.wave("abcdefgh", seed=number, letter_seconds=seconds[number] / 8)
            rows.append(tones.row(f"u{number:06d}", "abcdefgh", wave))
        storage.write_table(str(folder / "train" / f"shard-{shard:05d}.parquet"), tones.table(rows), row_group_size=32)
    return str(folder)


def _ours(shards: str) -> Callable[[], Epoch]:
    # A cache would keep the features of the run before.
    options = BatchOptions(max_frames=MAX_FRAMES, cache_mb=0)

    def work() -> Epoch:
        loader = tones.loader(shards, options=options)
        plan = loader.plan(0, 1)
        batches = [
            (batch.ids, batch.frames, batch.features)
            for number in range(plan.windows)
            for batch, _ in loader.window_batches(START._replace(window=number), ranks=[0], world=1)
        ]
        return _epoch([(ids, frames, features.shape[1]) for ids, frames, features in batches])

    return work


def _epoch(batches: Sequence[tuple[Sequence[str], np.ndarray, int]]) -> Epoch:
    true = sum(int(np.asarray(frames).sum()) for _, frames, _ in batches)
    padded = sum(len(ids) * longest for ids, _, longest in batches)
    return Epoch(tuple(sorted(name for ids, _, _ in batches for name in ids)), 1 - true / padded)


def _features(fbank: Fbank, flac: bytes) -> torch.Tensor:
    wave = torch.from_numpy(soundfile.read(io.BytesIO(flac), dtype="float32")[0])[None]
    return utterance_cmvn(*fbank(wave, torch.tensor([wave.shape[1]])))[0].half()


def _padded(ids: Sequence[str], features: Sequence[torch.Tensor]) -> tuple[list[str], np.ndarray, int]:
    batch = pad_sequence(list(features), batch_first=True)
    return list(ids), np.array([len(each) for each in features]), batch.shape[1]


def _plain(shards: str) -> Callable[[], Epoch]:
    def work() -> Epoch:
        fbank, batches = Fbank(), []
        for url in shard_urls(shards, "train"):
            table = storage.read_table(url, ["id", "audio"])
            ids, audio = table["id"].to_pylist(), table["audio"].to_pylist()
            for start in range(0, len(ids), 32):
                part = slice(start, start + 32)
                batches.append(_padded(ids[part], [_features(fbank, flac) for flac in audio[part]]))
        return _epoch(batches)

    return work


def _lhotse(lhotse: ModuleType, shards: str, folder: Path) -> Callable[[], Epoch]:
    from lhotse import CutSet, Recording
    from lhotse.dataset import DynamicBucketingSampler
    from lhotse.features.kaldi.extractors import Fbank as LhotseFbank
    from lhotse.shar import SharWriter

    folder.mkdir()
    with SharWriter(str(folder), fields={"recording": "flac"}, shard_size=UTTERANCES // SHARDS) as writer:
        for url in shard_urls(shards, "train"):
            table = storage.read_table(url, ["id", "audio"])
            for name, flac in zip(table["id"].to_pylist(), table["audio"].to_pylist(), strict=True):
                writer.write(Recording.from_bytes(flac, name).to_cut())

    def work() -> Epoch:
        cuts = CutSet.from_shar(in_dir=folder, shuffle_shards=True, seed=0)
        sampler = DynamicBucketingSampler(cuts, max_duration=MAX_FRAMES / 100, num_buckets=30, shuffle=True, seed=0)
        extractor, batches = LhotseFbank(), []
        for batch in sampler:
            waves = [torch.from_numpy(cut.load_audio()) for cut in batch]
            features = extractor.extract_batch(waves, sampling_rate=16_000)
            features = [features] if isinstance(features, torch.Tensor) and features.dim() == 2 else list(features)
            batches.append(_padded([cut.recording_id for cut in batch], [f.half() for f in features]))
        return _epoch(batches)

    return work


def _webdataset(webdataset: ModuleType, shards: str, folder: Path) -> Callable[[], Epoch]:
    folder.mkdir()
    urls = []
    for number, url in enumerate(shard_urls(shards, "train")):
        urls.append(str(folder / f"{number:05d}.tar"))
        table = storage.read_table(url, ["id", "audio", "text"]).to_pylist()
        with webdataset.TarWriter(urls[-1]) as writer:
            for row in table:
                about = json.dumps({"text": row["text"]}).encode()
                writer.write({"__key__": row["id"], "flac": row["audio"], "json": about})

    def work() -> Epoch:
        fbank = Fbank()
        dataset = (
            webdataset.WebDataset(urls, shardshuffle=SHARDS, seed=0)
            .shuffle(1000)
            .map(lambda row: (row["__key__"], _features(fbank, row["flac"])))
            .batched(32, collation_fn=lambda rows: _padded(*zip(*rows, strict=True)), partial=True)
        )
        return _epoch(list(webdataset.WebLoader(dataset, batch_size=None, num_workers=0)))

    return work
