"""Encoder-decoder translation models: NLLB-200, M2M-100, MADLAD-400 and OPUS-MT, by transformers or by CTranslate2."""

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt._transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from xlst_ray.mt.lm import device_of
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.mt.seq2seq_tokens import PairTokens, tell_languages

LARGEST_OF_TOKENIZERS = 2**26  # bytes of a file
LONGEST_SOURCE = 512  # tokens, where the tokenizer tells no length: what NLLB-200 and OPUS-MT were trained on


class Seq2Seq(ABC):
    """What both ways of running such a model have in common: batches of like length, and a limit for each sentence."""

    def __init__(self, options: EngineOptions, tokens: PairTokens) -> None:
        self._options, self._tokens = options, tokens
        told = int(tokens.tokenizer.model_max_length)  # a number beyond all bounds where it is not known
        self._longest = min(told, LONGEST_SOURCE) if told > 0 else LONGEST_SOURCE

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        """See `Translator.translate`."""
        sources = [self._tokens.encode(tidy(text)) for text in texts]
        results = [Translation(None, "error", "source too long")] * len(texts)
        fitting = [index for index, source in enumerate(sources) if len(source) <= self._longest]
        fitting.sort(key=lambda index: len(sources[index]), reverse=True)  # the longest first: memory fails early
        for start in range(0, len(fitting), self._options.batch_size):
            batch = fitting[start : start + self._options.batch_size]
            written = self._generate([sources[index] for index in batch], [self._limit(sources[i]) for i in batch])
            for index, tokens in zip(batch, written, strict=True):
                results[index] = self._read(sources[index], tokens)
        return results

    @abstractmethod
    def _generate(self, sources: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        """The translations' tokens, each without what the decoder began with and with its end, where it came to one."""

    def _limit(self, source: Sequence[int]) -> int:
        return math.ceil(self._options.max_new_tokens_ratio * len(source)) + self._options.max_new_tokens_margin

    def _read(self, source: Sequence[int], written: Sequence[int]) -> Translation:
        end = self._tokens.tokenizer.eos_token_id
        tokens = written[: written.index(end)] if end in written else written  # what follows is padding
        read, wrote = len(source), min(len(tokens), self._limit(source))
        if len(tokens) >= self._limit(source):
            return Translation(None, "error", "too long", read, wrote)
        text = tidy(self._tokens.tokenizer.decode(tokens, skip_special_tokens=True))
        return Translation(text, "ok", None, read, wrote) if text else Translation(None, "error", "empty", read, wrote)


class TransformersSeq2Seq(Seq2Seq):
    """By transformers; with `gpu` on the GPU where there is one.

    Raises:
        ConfigError: no path, or a language that the model lacks.
        DataError: the folder has not all files, or a file is damaged.
    """

    def __init__(self, options: EngineOptions, source: str, target: str, *, gpu: bool = False) -> None:
        with ExitStack() as stack:
            place, name = _place(options, stack)
            tokens = _tokens(place, options, source, target, name)
            try:
                model = AutoModelForSeq2SeqLM.from_pretrained(place)
            except Exception as error:  # transformers and safetensors raise bare Exceptions of many kinds
                raise DataError(f"cannot be loaded as an encoder-decoder model ({error})", where=name) from error
        super().__init__(options, tokens)
        self._device = device_of(gpu=gpu)
        self._model = model.eval().to(self._device)
        self._first = None if tokens.first is None else int(tokens.tokenizer.convert_tokens_to_ids(tokens.first))

    def _generate(self, sources: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        padded = self._tokens.tokenizer.pad({"input_ids": list(sources)}, return_tensors="pt", padding_side="right")
        first = {} if self._first is None else {"forced_bos_token_id": self._first}
        with torch.inference_mode():
            outputs = self._model.generate(
                **padded.to(self._device),
                **first,
                max_new_tokens=max(limits) + 1,  # beyond any limit, the token of the language included
                do_sample=False,
                num_beams=self._options.beams,
                length_penalty=1.0,
            )
        begun = 1 if self._first is None else 2
        return [row[begun:] for row in outputs.tolist()]


class CTranslate2Seq2Seq(Seq2Seq):
    """By CTranslate2, from a folder that `ct2-transformers-converter` made, with the tokenizer's files in it.

    Raises:
        ConfigError: no path, CTranslate2 is not installed, or a language that the model lacks.
        DataError: the folder has not all files, or a file is damaged.
    """

    def __init__(self, options: EngineOptions, source: str, target: str, *, gpu: bool = False) -> None:
        _refuse_without_library(options)
        import ctranslate2

        with ExitStack() as stack:
            place, name = _place(options, stack)
            super().__init__(options, _tokens(place, options, source, target, name))
            threads = torch.get_num_threads()
            try:
                self._model = ctranslate2.Translator(place, device=device_of(gpu=gpu).type, intra_threads=threads)
            except (RuntimeError, ValueError) as error:
                raise DataError(f"cannot be loaded by CTranslate2 ({error})", where=name) from None

    def _generate(self, sources: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        tokenizer, first = self._tokens.tokenizer, self._tokens.first
        results = self._model.translate_batch(
            [tokenizer.convert_ids_to_tokens(source) for source in sources],
            target_prefix=None if first is None else [[first]] * len(sources),
            beam_size=self._options.beams,
            max_decoding_length=max(limits) + 1,
            max_input_length=0,
            return_end_token=True,
        )
        begun = 0 if first is None else 1
        return [list(tokenizer.convert_tokens_to_ids(result.hypotheses[0][begun:])) for result in results]


def refuse_unable(options: EngineOptions, source: str, target: str) -> None:
    """Refuse what both ways would, without the model's weights.

    Raises:
        ConfigError: no path, a library that is not installed, or a language that the model lacks.
        DataError: the folder has not all files, or its tokenizer is damaged.
    """
    _refuse_without_library(options)
    with ExitStack() as stack:
        place, name = _place(options, stack, LARGEST_OF_TOKENIZERS)
        _tokens(place, options, source, target, name)


def _refuse_without_library(options: EngineOptions) -> None:
    if options.engine == "ctranslate2" and importlib.util.find_spec("ctranslate2") is None:
        raise ConfigError(
            "engine ctranslate2 needs CTranslate2, which is not installed here",
            hint="pip install -e '.[ctranslate2]'",
        )


def _place(options: EngineOptions, stack: ExitStack, largest: int | None = None) -> tuple[str, str]:
    """The model's folder as a local path, and what to call it in messages; of a remote one, files up to `largest`."""
    folder = options.model_folder()
    return str(stack.enter_context(storage.local_folder(folder, largest))), folder


def _tokens(place: str, options: EngineOptions, source: str, target: str, name: str) -> PairTokens:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place)
    except Exception as error:  # transformers, tokenizers and sentencepiece raise bare Exceptions of many kinds
        hint = "it needs the tokenizer's files: ct2-transformers-converter --copy_files"
        raise DataError(
            f"has no tokenizer that can be read ({error})",
            where=name,
            hint=hint if options.engine == "ctranslate2" else None,
        ) from error
    return tell_languages(tokenizer, source, target, name)
