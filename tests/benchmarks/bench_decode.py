"""Recordings to 16 kHz waves in memory, and clips to a shard, against plain loops with the same decoder and encoder."""

import io
import json
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from harness import Row, compare

from xlst_ray.audio._torchaudio import functional
from xlst_ray.audio.decode import Wave, decode, encode_flac, resample
from xlst_ray.corpora.convert import convert_shard
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import ROW_GROUP_ROWS, SAMPLE_RATE, SHARD_SCHEMA

UTTERANCES = 30
RATES = {"WAV": 16_000, "FLAC": 44_100, "MP3": 48_000, "OGG": 22_050}  # as corpora come; OGG is Vorbis
SHARD_RATES = {"WAV": 16_000, "FLAC": 16_000, "MP3": 48_000}


def bench() -> list[Row]:
    seconds = np.random.default_rng(0).lognormal(1.5, 0.4, UTTERANCES).clip(2, 10)
    rows = []
    for kind, rate in RATES.items():
        clips = [_clip(kind, rate, length, seed) for seed, length in enumerate(seconds)]
        rows += compare(
            f"decode: {UTTERANCES} clips of 2 to 10 s, {kind} at {rate} Hz, to 16 kHz",
            {"ours": _ours(clips), "plain loop: soundfile, torchaudio's resample": _plain(clips)},
            amount=float(seconds.sum()),
            unit="audio-s",
            equal=lambda one, other: all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)),
        )
    for kind, rate in SHARD_RATES.items():
        with tempfile.TemporaryDirectory() as folder:
            plan = _write_clips(Path(folder), kind, rate, [*seconds, *seconds, *seconds])
            rows += compare(
                f"a shard: {3 * UTTERANCES} clips of 2 to 10 s, {kind} at {rate} Hz, to FLAC at 16 kHz in Parquet",
                {"ours": _convert(plan), "plain loop: soundfile, torchaudio, pyarrow": _plain_shard(plan)},
                amount=3 * float(seconds.sum()),
                unit="audio-s",
                equal=lambda one, other: pq.read_table(one).equals(pq.read_table(other)),
            )
    return rows


def _clip(kind: str, rate: int, seconds: float, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * (150 + 40 * np.sin(3 * times)) * times) + 0.02 * rng.standard_normal(len(times))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, subtype="VORBIS" if kind == "OGG" else None)
    return buffer.getvalue()


def _ours(clips: list[bytes]) -> Callable[[], list[Wave]]:
    return lambda: [resample(*decode(clip), SAMPLE_RATE) for clip in clips]


def _plain(clips: list[bytes]) -> Callable[[], list[Wave]]:
    return lambda: [_plain_wave(io.BytesIO(clip)) for clip in clips]


def _plain_wave(file: io.BytesIO | str) -> Wave:
    wave, rate = soundfile.read(file, dtype="float32")
    if rate != SAMPLE_RATE:
        wave = functional.resample(torch.from_numpy(wave), rate, SAMPLE_RATE).numpy()
    return wave


def _write_clips(folder: Path, kind: str, rate: int, seconds: list[float]) -> Path:
    """Clips in files, and the plan of their shard."""
    lines = []
    for seed, length in enumerate(seconds):
        file = folder / f"{seed}.{kind.lower()}"
        file.write_bytes(_clip(kind, rate, length, seed))
        said = {"id": f"u{seed}", "audio": str(file), "text": "so many words", "lang": "en", "split": "train"}
        lines.append(json.dumps({"where": f"row {seed}", "utterance": said}))
    plan = folder / "plan" / "train-00000.jsonl"
    plan.parent.mkdir()
    plan.write_text("\n".join(lines) + "\n")
    return plan


def _convert(plan: Path) -> Callable[[], Path]:
    folders = (plan.parent / f"ours-{number}" for number in count())

    def work() -> Path:
        folder = next(folders)
        convert_shard(str(plan), str(folder), ShardOptions())
        return folder / "train" / "shard-00000.parquet"

    return work


def _plain_shard(plan: Path) -> Callable[[], Path]:
    def work() -> Path:
        rows = []
        for line in plan.read_text().splitlines():
            said = json.loads(line)["utterance"]
            wave = _plain_wave(said["audio"])
            about = {"duration": len(wave) / SAMPLE_RATE, "speaker": "", "group": "", "translations": []}
            rows.append({"audio": encode_flac(wave), **about, **{name: said[name] for name in ("id", "text", "lang")}})
        url = plan.with_name("plain.parquet")
        pq.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA), url, row_group_size=ROW_GROUP_ROWS, compression="zstd")
        return url

    return work
