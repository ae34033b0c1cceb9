"""What a pretrained encoder reads: the features that it was trained on, made of a wave by transformers' extractors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from xlst_ray.audio.decode import Wave
from xlst_ray.audio.fbank import SAMPLE_RATE, SHIFT
from xlst_ray.errors import DataError
from xlst_ray.model._transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

Kind = Literal["whisper", "wav2vec2", "wav2vec2-bert"]  # `model_type` in config.json

CONFIG: Final = "config.json"
EXTRACTOR: Final = "preprocessor_config.json"
_EXTRACTORS: Final[dict[Kind, Any]] = {
    "whisper": WhisperFeatureExtractor,
    "wav2vec2": Wav2Vec2FeatureExtractor,  # XLS-R and MMS, too
    "wav2vec2-bert": SeamlessM4TFeatureExtractor,
}


@dataclass(frozen=True)
class OwnFeatures:
    """A wave to features (T, F), a row every 10 ms, so that lengths mean the same for every encoder.

    Whisper's rows are log-mel energies, w2v-BERT's are Kaldi's, normalised by bin; wav2vec 2.0's are the samples
    themselves, normalised over the utterance, of which less than 10 ms at the end are left out.

    Attributes:
        kind: family of the encoder.
        settings: of its extractor, as `preprocessor_config.json` has them.
    """

    kind: Kind
    settings: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """F."""
        return SHIFT if self.kind == "wav2vec2" else int(self._extractor.feature_size)

    @property
    def longest(self) -> int | None:
        """Samples of a wave that are heard: Whisper's first 30 s; none: all."""
        return int(self._extractor.n_samples) if self.kind == "whisper" else None

    @cached_property
    def _extractor(self) -> Any:
        return _EXTRACTORS[self.kind](**self.settings)

    def __call__(self, wave: Wave) -> Tensor:
        """(N,) float32 at 16 kHz -> (T, F) float32."""
        extract, wave = self._extractor, wave[: self.longest]
        if self.kind == "whisper":
            # Without the silence up to 30 s that Whisper was trained with: `WhisperEncoder` does without it.
            found = extract(wave, sampling_rate=SAMPLE_RATE, padding="do_not_pad", truncation=False)
            rows = np.asarray(found["input_features"][0]).T
        elif self.kind == "wav2vec2":
            whole = wave[: len(wave) // SHIFT * SHIFT]
            rows = np.asarray(extract(whole, sampling_rate=SAMPLE_RATE)["input_values"][0]).reshape(-1, SHIFT)
        else:  # two frames a row there
            found = extract(wave, sampling_rate=SAMPLE_RATE, pad_to_multiple_of=None)
            rows = np.asarray(found["input_features"][0]).reshape(-1, self.dim)
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


def read_frontend(folder: Path) -> OwnFeatures:
    """The features of the encoder in a local folder.

    Raises:
        DataError: a file is missing or no JSON, or the encoder is of a family that is not known here.
    """
    config, settings = _read(folder / CONFIG), _read(folder / EXTRACTOR)
    kind = config.get("model_type")
    if kind not in _EXTRACTORS:
        raise DataError(
            f"an encoder of the kind {kind!r} is not known here",
            where=str(folder / CONFIG),
            hint=f"known: {', '.join(get_args(Kind))}; XLS-R and MMS are wav2vec2, w2v-BERT 2.0 is wav2vec2-bert",
        )
    rate = settings.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise DataError(f"reads speech at {rate} Hz, shards have {SAMPLE_RATE} Hz", where=str(folder / EXTRACTOR))
    names = ("feature_extractor_type", "processor_class", "return_attention_mask")
    return OwnFeatures(kind, {name: value for name, value in settings.items() if name not in names})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path), hint="is it the folder of an encoder?") from None
    if not isinstance(found, dict):
        raise DataError("is no JSON object", where=str(path))
    return found
