"""Log-mel filterbanks as Kaldi computes them, for batches of padded waves, on the CPU or the GPU.

Ours rather than `torchaudio.compliance.kaldi.fbank`, which takes one utterance at a time and builds its filters anew
for each. The figures are fairseq's (`get_torchaudio_fbank`): 80 bins, 25 ms frames every 10 ms, no dither, samples
scaled as 16-bit integers, edges snipped.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

SAMPLE_RATE: Final = 16_000  # Hz
MEL_BINS: Final = 80
FRAME: Final = 400  # samples: 25 ms
SHIFT: Final = 160  # samples: 10 ms
FRAMES_PER_SECOND: Final = SAMPLE_RATE / SHIFT

_FFT: Final = 512  # samples: the next power of two
_PREEMPHASIS: Final = 0.97
_CHUNK: Final = 512  # frames computed at once on a CPU, about what fits its second-level cache


def frames_of(samples: int) -> int:
    """Feature frames of a 16 kHz wave: only frames that lie wholly within it (Kaldi's `snip_edges`)."""
    return max(0, 1 + (samples - FRAME) // SHIFT)


def frames_of_seconds(seconds: float) -> int:
    """Feature frames of a 16 kHz wave of that length."""
    return frames_of(round(seconds * SAMPLE_RATE))


class Fbank(nn.Module):
    """Waves to log-mel features. Not trained; a module only so that its tables move with `.to(device)`."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", _povey_window(), persistent=False)
        self.register_buffer("filters", _mel_filters(), persistent=False)

    @torch.no_grad()
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a padded batch, each row as if it were computed alone.

        Args:
            waves: (B, N) float32 in [-1, 1] at 16 kHz.
            lengths: (B,) true samples.

        Returns:
            Features (B, T, 80), zero beyond each row's end, and their lengths (B,) in frames.
        """
        frame_counts = ((lengths - FRAME).div(SHIFT, rounding_mode="floor") + 1).clamp(min=0)
        total = frames_of(waves.shape[1])
        features = waves.new_zeros(len(waves), total, MEL_BINS)
        if total == 0:
            return features, frame_counts
        frames = waves.unfold(1, FRAME, SHIFT)
        # Autocast would compute the mel energies in bfloat16, too coarse for their range.
        with torch.autocast(waves.device.type, enabled=False):
            if waves.device.type == "cpu":
                for row, count in enumerate(frame_counts.tolist()):
                    for start in range(0, count, _CHUNK):
                        part = slice(start, min(start + _CHUNK, count))
                        features[row, part] = self._log_mel(frames[row, part])
            else:
                valid = torch.arange(total, device=waves.device) < frame_counts[:, None]
                features = self._log_mel(frames).masked_fill_(~valid[:, :, None], 0.0)
        return features, frame_counts

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(..., 400) samples -> (..., 80)."""
        frames = frames - frames.mean(dim=-1, keepdim=True)
        padded = frames.new_zeros(*frames.shape[:-1], _FFT)
        torch.sub(frames[..., 1:], frames[..., :-1], alpha=_PREEMPHASIS, out=padded[..., 1:FRAME])
        padded[..., 0] = frames[..., 0] * (1.0 - _PREEMPHASIS)
        padded[..., :FRAME].mul_(self.window)
        spectrum = torch.fft.rfft(padded)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        energies: Tensor = power @ self.filters
        return energies.clamp_(min=torch.finfo(torch.float32).eps).log_()


def utterance_cmvn(features: Tensor, lengths: Tensor) -> Tensor:
    """Each utterance to mean 0 and variance 1 in every bin over its true frames (fairseq's `utterance_cmvn`).

    Args:
        features: (B, T, F).
        lengths: (B,) true frames.

    Returns:
        (B, T, F), zero beyond each row's end.
    """
    valid = (torch.arange(features.shape[1], device=features.device) < lengths[:, None])[:, :, None]
    count = lengths.clamp(min=1).to(features.dtype)[:, None, None]
    mean = features.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / count
    centred = (features - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / variance.clamp(min=1e-10).sqrt()


def _povey_window() -> Tensor:
    """Kaldi's default window, a Hann window to the power of 0.85, and with it the scale of 16-bit samples. (400,)."""
    return torch.hann_window(FRAME, periodic=False).pow(0.85) * 32768.0  # a power of two: scaling late changes no bit


def _mel_filters() -> Tensor:
    """Triangles that overlap by half on Kaldi's mel scale, 1127 ln(1 + f / 700), from 20 Hz to Nyquist. (257, 80)."""
    low, high = (1127.0 * math.log1p(frequency / 700.0) for frequency in (20.0, SAMPLE_RATE / 2))
    width = (high - low) / (MEL_BINS + 1)
    left = low + torch.arange(MEL_BINS) * width
    frequencies = torch.arange(_FFT // 2 + 1) * (SAMPLE_RATE / _FFT)
    mels = (1127.0 * torch.log(1.0 + frequencies / 700.0))[:, None]
    rising, falling = (mels - left) / width, (left + 2 * width - mels) / width
    return torch.minimum(rising, falling).clamp(min=0.0)
