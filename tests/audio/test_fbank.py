"""Filterbanks against torchaudio's Kaldi compliance module and against plain double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xlst_ray.audio._torchaudio import kaldi
from xlst_ray.audio.fbank import FRAME, SHIFT, Fbank, frames_of, frames_of_seconds, utterance_cmvn

FAINT = np.log(10) * 60 / 10  # 60 dB


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Pulses at a gliding pitch through two resonances, with pauses and noise at -60 dB, and an offset."""
    rng = np.random.default_rng(seed)
    times = np.arange(samples) / 16_000
    phase = np.cumsum(120 + 60 * np.sin(2 * np.pi * 0.7 * times)) / 16_000
    pulses = (np.diff(np.floor(phase), prepend=0.0) > 0).astype(float)
    ring = sum(np.exp(-np.arange(300) / 60) * np.sin(2 * np.pi * f * np.arange(300) / 16_000) for f in (500, 1700))
    wave = np.convolve(pulses, ring)[:samples] * (np.sin(2 * np.pi * 1.3 * times) > -0.5)
    return torch.tensor(0.2 * wave + 0.001 * rng.standard_normal(samples) + 0.01, dtype=torch.float32)


def oracle(wave: Tensor) -> Tensor:
    features: Tensor = kaldi.fbank(wave[None] * 32768, num_mel_bins=80, sample_frequency=16_000)
    return features


def batch(*samples: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    waves = [speechlike(count, seed) for seed, count in enumerate(samples)]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True, padding_value=7.0)
    return padded, torch.tensor(samples), waves


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 16_000, 95_321])
def test_equals_kaldi(samples: int) -> None:
    wave = speechlike(samples)
    features, lengths = Fbank()(wave[None], torch.tensor([samples]))
    expected = oracle(wave)
    assert lengths.tolist() == [len(expected)] == [frames_of(samples)]
    assert features.dtype == torch.float32
    apart = (features[0] - expected).abs()
    # Far below the strongest bin of a frame a value is what float32 leaves of its FFT, which differs from processor to
    # processor: on one, each side is off by 0.001 to 0.003 there.
    faint = expected < expected.max(1, keepdim=True).values - FAINT
    assert apart[~faint].max() < 1e-3
    assert apart.max() < 5e-3
    assert faint.float().mean() < 0.05


def test_rounding_errors_in_noise_are_those_of_single_precision() -> None:
    wave = 0.1 * torch.randn(160_000, generator=torch.Generator().manual_seed(0))
    exact = in_double_precision(wave)
    ours = (Fbank()(wave[None], torch.tensor([160_000]))[0][0] - exact).abs()
    theirs = (oracle(wave) - exact).abs()
    assert ours.mean() < 1e-5
    assert ours.max() < 2 * theirs.max()


def in_double_precision(wave: Tensor) -> Tensor:
    """Kaldi's definition, written out for one utterance."""
    frames = (wave.double() * 32768).unfold(0, FRAME, SHIFT)
    frames = frames - frames.mean(1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], 1)
    windowed = frames * torch.hann_window(FRAME, periodic=False, dtype=torch.float64) ** 0.85
    power = torch.fft.rfft(windowed, 512).abs() ** 2
    filters, _ = kaldi.get_mel_banks(80, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
    return (power[:, :256] @ filters.T.double()).log()


@pytest.mark.parametrize("wave", [torch.zeros(2_000), torch.full((2_000,), 0.25)], ids=["silence", "offset"])
def test_silence_is_the_floor(wave: Tensor) -> None:
    features, _ = Fbank()(wave[None], torch.tensor([2_000]))
    torch.testing.assert_close(features[0], oracle(wave), atol=1e-3, rtol=0)
    assert features.isfinite().all()


def test_a_row_of_a_batch_is_as_if_alone_and_padding_is_zero() -> None:
    waves, lengths, singles = batch(90_000, 16_000, 399, 30_017)
    features, counts = Fbank()(waves, lengths)
    assert counts.tolist() == [frames_of(int(length)) for length in lengths]
    for row, single in enumerate(singles):
        alone, _ = Fbank()(single[None], torch.tensor([len(single)]))
        count = int(counts[row])
        torch.testing.assert_close(features[row, :count], alone[0], atol=1e-4, rtol=0)
        assert not features[row, count:].any()


def test_a_batch_too_short_for_a_frame() -> None:
    features, counts = Fbank()(torch.zeros(2, 399), torch.tensor([399, 10]))
    assert features.shape == (2, 0, 80)
    assert counts.tolist() == [0, 0]


def test_a_general_device_computes_what_the_cpu_computes() -> None:
    waves, lengths, _ = batch(40_000, 16_000, 399)
    fbank = Fbank()
    expected, _ = fbank(waves, lengths)
    frames = waves.unfold(1, FRAME, SHIFT)
    whole = fbank._log_mel(frames)
    count = frames_of(16_000)
    torch.testing.assert_close(whole[1, :count], expected[1, :count], atol=1e-4, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same() -> None:
    waves, lengths, _ = batch(90_000, 16_000, 399)
    expected, counts = Fbank()(waves, lengths)
    features, gpu_counts = Fbank().to("cuda")(waves.cuda(), lengths.cuda())
    assert gpu_counts.tolist() == counts.tolist()
    apart = (features.cpu() - expected).abs()
    assert float((apart > 1e-3).float().mean()) < 1e-4, "but for bins 60 dB below a frame's loudest"
    assert float(apart.max()) < 0.01


def test_autocast_does_not_coarsen_it() -> None:
    waves, lengths, _ = batch(16_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = Fbank()(waves, lengths)
    assert torch.equal(features, Fbank()(waves, lengths)[0])


@given(st.integers(0, 200_000))
def test_frames_lie_wholly_within_the_wave(samples: int) -> None:
    frames = frames_of(samples)
    assert frames >= 0
    if frames:
        assert (frames - 1) * SHIFT + FRAME <= samples
    assert frames * SHIFT + FRAME > samples


def test_frames_of_seconds() -> None:
    assert frames_of_seconds(1.0) == frames_of(16_000) == 98


def test_cmvn_is_numpys_over_the_true_frames() -> None:
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(5, 3, (3, 50, 80)), dtype=torch.float32)
    lengths = torch.tensor([50, 20, 1])
    normalised = utterance_cmvn(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        true = features[row, :length].double().numpy()
        expected = (true - true.mean(0)) / np.sqrt(np.maximum(true.var(0), 1e-10))
        np.testing.assert_allclose(normalised[row, :length].numpy(), expected, atol=1e-4)
        assert not normalised[row, length:].any()


def test_cmvn_of_no_frames_and_of_constant_bins_is_finite() -> None:
    normalised = utterance_cmvn(torch.full((2, 4, 80), 3.0), torch.tensor([4, 0]))
    assert not normalised.any()
