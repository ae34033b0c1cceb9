"""What a model reads of one utterance, the same in training and in recognition.

Each is computed alone: in a batch, sums over padding differ in the last bits, by which a run that was resumed, or a
transcript, would not be the same as another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from xlst_ray.audio.decode import Wave
from xlst_ray.audio.fbank import Fbank, utterance_cmvn


class WaveFeatures:
    """Waves (N,), float32 at 16 kHz, to features (T, F), float16.

    Args:
        frontend: makes the features (T, F) that a pretrained encoder in the model reads; none: the filterbank.
        device: where the filterbank is computed.
    """

    def __init__(self, frontend: Callable[[Wave], Tensor] | None = None, device: torch.device | None = None) -> None:
        self._frontend, self._device = frontend, device
        self._fbank = Fbank().to(device)

    def __call__(self, wave: Wave) -> Tensor:
        if self._frontend is not None:
            return self._frontend(wave).half()
        samples = torch.tensor([len(wave)], device=self._device)
        features, _ = self._fbank(torch.from_numpy(wave).to(self._device)[None], samples)
        return normalised(features[0])


def normalised(features: Tensor) -> Tensor:
    """An utterance's filterbank or states (T, F) to mean 0 and variance 1 in every bin, float16."""
    return utterance_cmvn(features.float()[None], torch.tensor([len(features)], device=features.device))[0].half()
