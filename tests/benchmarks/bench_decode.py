"""Recordings to 16 kHz waves in memory, by `decode` and `resample`, against a plain loop with the same decoder."""

import io
from collections.abc import Callable

import numpy as np
import soundfile
import torch
from harness import Row, compare

from xlst_ray.audio._torchaudio import functional
from xlst_ray.audio.decode import Wave, decode, resample

UTTERANCES = 30
RATES = {"WAV": 16_000, "FLAC": 44_100, "MP3": 48_000, "OGG": 22_050}  # as corpora come; OGG is Vorbis


def bench() -> list[Row]:
    rows = []
    for kind, rate in RATES.items():
        seconds = np.random.default_rng(0).lognormal(1.5, 0.4, UTTERANCES).clip(2, 10)
        clips = [_clip(kind, rate, length, seed) for seed, length in enumerate(seconds)]
        rows += compare(
            f"decode: {UTTERANCES} clips of 2 to 10 s, {kind} at {rate} Hz, to 16 kHz",
            {"ours": _ours(clips), "plain loop: soundfile, torchaudio's resample": _plain(clips)},
            amount=float(seconds.sum()),
            unit="audio-s",
            equal=lambda one, other: all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)),
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
    return lambda: [resample(*decode(clip), 16_000) for clip in clips]


def _plain(clips: list[bytes]) -> Callable[[], list[Wave]]:
    def work() -> list[Wave]:
        waves = []
        for clip in clips:
            wave, rate = soundfile.read(io.BytesIO(clip), dtype="float32")
            if rate != 16_000:
                wave = functional.resample(torch.from_numpy(wave), rate, 16_000).numpy()
            waves.append(wave)
        return waves

    return work
