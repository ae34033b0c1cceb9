"""Waves to filterbanks, one utterance at a time as peers take them: audio-seconds a CPU-second."""

from collections.abc import Callable

import numpy as np
import torch
from harness import Row, compare
from peers import peer

from xlst_ray.audio._torchaudio import kaldi
from xlst_ray.audio.fbank import SAMPLE_RATE, Fbank

UTTERANCES = 40
TOLERANCE = 1e-3
OUTLIERS = 1e-5  # share of values that may differ by more: near-empty bins, where two float32 FFTs round differently


def bench() -> list[Row]:
    seconds = np.random.default_rng(0).lognormal(1.5, 0.4, UTTERANCES).clip(2, 10)
    waves = [_speechlike(round(length * SAMPLE_RATE), seed) for seed, length in enumerate(seconds)]
    sides = {"ours": _ours(waves), "torchaudio.compliance.kaldi": _torchaudio(waves)}
    native, name = peer("kaldi_native_fbank", "kaldi-native-fbank")
    if native is not None:
        sides[name] = _native(native, waves)
    lhotse, name = peer("lhotse", "lhotse")
    if lhotse is not None:
        sides[name] = _lhotse(lhotse, waves)
    sides["transformers Speech2TextFeatureExtractor"] = _transformers(waves)
    return compare(
        f"fbank: {UTTERANCES} utterances of 2 to 10 s, the same to {TOLERANCE:g} in all but {OUTLIERS:g} of the values",
        sides,
        amount=float(seconds.sum()),
        unit="audio-s",
        equal=_equal,
    )


def _speechlike(samples: int, seed: int) -> torch.Tensor:
    """Pulses through a resonance with noise: nothing near the floor, where the log makes rounding errors large."""
    rng = np.random.default_rng(seed)
    pulses = (np.arange(samples) % rng.integers(60, 160) == 0).astype(np.float64)
    ring = np.exp(-np.arange(300) / 60) * np.sin(2 * np.pi * 700 * np.arange(300) / SAMPLE_RATE)
    wave = 0.3 * np.convolve(pulses, ring)[:samples] + 0.01 * rng.standard_normal(samples)
    return torch.tensor(wave, dtype=torch.float32)


Features = list[torch.Tensor]


def _equal(one: Features, other: Features) -> bool:
    if any(a.shape != b.shape for a, b in zip(one, other, strict=True)):
        return False
    different = torch.cat(one).sub(torch.cat(other)).abs() >= TOLERANCE
    return float(different.double().mean()) <= OUTLIERS


def _ours(waves: Features) -> Callable[[], Features]:
    fbank = Fbank()
    return lambda: [fbank(wave[None], torch.tensor([len(wave)]))[0][0] for wave in waves]


def _torchaudio(waves: Features) -> Callable[[], Features]:
    return lambda: [kaldi.fbank(wave[None] * 32768, num_mel_bins=80, sample_frequency=SAMPLE_RATE) for wave in waves]


def _native(native, waves: Features) -> Callable[[], Features]:
    options = native.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins = 0.0, 80

    def work() -> Features:
        features = []
        for wave in waves:
            fbank = native.OnlineFbank(options)
            fbank.accept_waveform(SAMPLE_RATE, (wave * 32768).tolist())
            fbank.input_finished()
            features.append(torch.from_numpy(np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])))
        return features

    return work


def _lhotse(lhotse, waves: Features) -> Callable[[], Features]:
    from lhotse.features.kaldi.extractors import Fbank as LhotseFbank
    from lhotse.features.kaldi.extractors import FbankConfig

    config = FbankConfig(dither=0.0, snip_edges=True, num_mel_bins=80, low_freq=20.0, high_freq=0.0, energy_floor=1e-10)
    extractor = LhotseFbank(config)
    return lambda: [torch.as_tensor(extractor.extract((wave * 32768).numpy(), SAMPLE_RATE)) for wave in waves]


def _transformers(waves: Features) -> Callable[[], Features]:
    from transformers import Speech2TextFeatureExtractor

    extractor = Speech2TextFeatureExtractor(do_ceptral_normalize=False, dither=0.0)
    return lambda: [torch.from_numpy(extractor._extract_fbank_features(wave.numpy())) for wave in waves]
