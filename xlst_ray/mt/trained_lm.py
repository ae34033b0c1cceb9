"""The engine of our own models: batched greedy generation by transformers, from the folder of jobs/train_mt.py."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from xlst_ray import storage
from xlst_ray.mt.lm import device_of, load_lm
from xlst_ray.mt.lm_info import read_info
from xlst_ray.mt.options import MODEL_FILES, EngineOptions
from xlst_ray.mt.protocol import Translation, tidy


class TrainedLM:
    """A decoder-only translation model; with `gpu` on the GPU where there is one.

    A translation does not depend on the other sentences of its batch: the length limit is per sentence.

    Raises:
        ConfigError: no path, or a model of another pair of languages.
        DataError: the folder has not all files, or a file is damaged.
    """

    def __init__(self, options: EngineOptions, source: str, target: str, *, gpu: bool = False) -> None:
        folder = options.model_folder()
        self._info = read_info(folder)
        self._info.check(source, target, where=folder)
        self._options = options
        with tempfile.TemporaryDirectory() as copy:
            for name in MODEL_FILES:
                (Path(copy) / name).write_bytes(storage.read_bytes(storage.join(folder, name)))
            model, self._tokenizer = load_lm(Path(copy))
        self._device = device_of(gpu=gpu)
        self._model = model.to(self._device)
        self._max_length = int(model.config.max_position_embeddings)

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        prompts = [self._tokenizer(self._info.fill(tidy(text)))["input_ids"] for text in texts]
        results = [Translation(None, "error", "source too long")] * len(texts)
        fitting = [index for index, prompt in enumerate(prompts) if self._limit(prompt) > 0]
        fitting.sort(key=lambda index: len(prompts[index]), reverse=True)  # the longest first: memory fails early
        for start in range(0, len(fitting), self._options.batch_size):
            batch = fitting[start : start + self._options.batch_size]
            outputs = self._generate([prompts[index] for index in batch])
            for index, output in zip(batch, outputs, strict=True):
                results[index] = output
        return results

    def _limit(self, prompt: Sequence[int]) -> int:
        """The most tokens a translation of this prompt may have, its end included."""
        wanted = math.ceil(self._options.max_new_tokens_ratio * len(prompt)) + self._options.max_new_tokens_margin
        return min(wanted, self._max_length - len(prompt))

    def _generate(self, prompts: Sequence[Sequence[int]]) -> list[Translation]:
        limits = [self._limit(prompt) for prompt in prompts]
        padded = self._tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt", padding_side="left")
        with torch.inference_mode():
            outputs = self._model.generate(
                **padded.to(self._device), max_new_tokens=max(limits), do_sample=False, num_beams=1
            )
        written = outputs[:, padded["input_ids"].shape[1] :].tolist()
        return [
            self._read(len(prompt), tokens[:limit])
            for prompt, tokens, limit in zip(prompts, written, limits, strict=True)
        ]

    def _read(self, read: int, tokens: Sequence[int]) -> Translation:
        if self._tokenizer.eos_token_id not in tokens:
            return Translation(None, "error", "too long", read, len(tokens))
        end = tokens.index(self._tokenizer.eos_token_id)
        text = tidy(self._tokenizer.decode(tokens[:end], skip_special_tokens=True))
        if not text:
            return Translation(None, "error", "empty", read, end + 1)
        return Translation(text, "ok", None, read, end + 1)
