"""A model that reads a sentence and its translation and tells how good that is, as an engine (`Translator`).

The layout is transformers' sequence classification with one output, as MonoTransQuest has it (Ranasinghe, Orasan and
Mitkov: "TransQuest: Translation Quality Estimation with Cross-lingual Transformers", COLING 2020). The output is on the
scale that the model was trained on, and must be higher for a better translation: of TransQuest's models the `da` ones.
"""

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt._transformers import AutoModelForSequenceClassification, AutoTokenizer
from xlst_ray.mt.lm import device_of
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.quality import HINT, QualityOptions, refuse_other_models

BEFORE_POSITIONS: Final = 2  # of RoBERTa's position table, which starts behind the padding's number


class QualityModel:
    """An estimator as a `Translator`: of pairs (`join_pair`), into numbers as text.

    Raises:
        ConfigError: the folder is not that of a model of sequence classification with one output.
        DataError: a file of it is missing or damaged.
    """

    def __init__(self, options: QualityOptions, *, gpu: bool = False) -> None:
        path = options.path or ""
        refuse_other_models(path)
        with ExitStack() as stack:
            place = str(stack.enter_context(storage.local_folder(path)))
            self._tokenizer, model = _load(place, path)
        self._model = model.to(device_of(gpu=gpu))
        self._batch_size = options.batch_size
        told, positions = int(self._tokenizer.model_max_length), int(self._model.config.max_position_embeddings)
        self._longest = min(told, positions - BEFORE_POSITIONS) if told != positions else positions

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        """A number for each pair, as text; a pair beyond the model's length is an error of its own."""
        pairs = [json.loads(text) for text in texts]
        results = [Translation(None, "error", "too long for the quality model")] * len(texts)
        encoded = self._tokenizer([text for text, _ in pairs], [translation for _, translation in pairs], verbose=False)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        fitting = [index for index, length in enumerate(lengths) if length <= self._longest]
        fitting.sort(key=lambda index: lengths[index], reverse=True)  # of like length; memory fails early
        for start in range(0, len(fitting), self._batch_size):
            batch = fitting[start : start + self._batch_size]
            rows = {name: [values[index] for index in batch] for name, values in encoded.items()}
            for index, score in zip(batch, self._estimate(rows), strict=True):
                results[index] = (
                    Translation(f"{score:.7g}", "ok", None, lengths[index])
                    if math.isfinite(score)
                    else Translation(None, "error", "the quality model gives no number", lengths[index])
                )
        return results

    def _estimate(self, rows: dict[str, list[list[int]]]) -> list[float]:
        padded = self._tokenizer.pad(rows, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            return [float(score) for score in self._model(**padded).logits[:, 0].tolist()]


def _load(place: str, name: str) -> tuple[Any, Any]:
    """(tokenizer, model) of a local folder."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        model, about = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers, tokenizers and safetensors raise bare Exceptions of many kinds
        raise DataError(
            f"cannot be loaded as a model of quality estimation ({error})", where=name, hint=HINT
        ) from error
    if about["missing_keys"]:
        raise DataError(
            f"lacks weights of a model of quality estimation ({', '.join(sorted(about['missing_keys'])[:3])})",
            where=name,
            hint=HINT,
        )
    return tokenizer, model.eval()
