"""The single door of this room to transformers, which imports torchaudio and so needs its mended door first."""

import xlst_ray.audio._torchaudio  # noqa: F401

# isort: split
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.utils import logging

logging.disable_progress_bar()  # a bar a file, where jobs have progress lines of their own

__all__ = [
    "AutoConfig",
    "AutoModel",
    "PreTrainedModel",
    "SeamlessM4TFeatureExtractor",
    "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor",
]
