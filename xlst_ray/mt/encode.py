"""Prompts as token ids, by the tokenizer and the chat template of a model's folder."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.specification import Specification

WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


@dataclass(frozen=True)
class Encoder:
    """A model's tokenizer, and what its configuration says of lengths.

    Attributes:
        ends: tokens that end an answer.
        most: the longest prompt and answer together, where the configuration says one.
    """

    tokenizer: Any
    ends: frozenset[int]
    most: int | None

    def encode(self, specification: Specification, text: str) -> list[int]:
        """The prompt of a sentence.

        Raises:
            ConfigError: a chat, and the tokenizer has no chat template.
        """
        prompt = specification.prompt(text)
        if isinstance(prompt, str):
            return [int(token) for token in self.tokenizer(prompt, verbose=False)["input_ids"]]
        if not getattr(self.tokenizer, "chat_template", None):
            raise ConfigError(
                "the model has no chat template, as base models have none",
                where=self.tokenizer.name_or_path,
                hint="take an instruction-tuned model, or a prompt.template of the form text",
            )
        written = self.tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True, **specification.chat_template_arguments
        )
        # The template writes the model's opening token itself.
        return [int(token) for token in self.tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"]]


def load_encoder(model: str, revision: str | None = None) -> Encoder:
    """The tokenizer of a model: a folder, a URL of one, or a name at a hub.

    Raises:
        DataError: no tokenizer there, or one that is damaged.
    """
    if "://" in model:
        with tempfile.TemporaryDirectory(prefix="xlst-ray-") as copy:
            for url in storage.list_files(model):
                if not url.endswith(WEIGHTS):
                    (Path(copy) / url.rpartition("/")[2]).write_bytes(storage.read_bytes(url))
            return _load(copy, None, model)
    return _load(model, revision, model)


def _load(place: str, revision: str | None, name: str) -> Encoder:
    from xlst_ray.mt._transformers import AutoConfig, AutoTokenizer

    local = Path(place).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, local_files_only=local)
        config = AutoConfig.from_pretrained(place, revision=revision, local_files_only=local)
    except Exception as error:  # transformers and tokenizers raise bare Exceptions of many kinds
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"has no tokenizer and configuration that can be read ({reason})",
            where=name,
            hint="the folder needs tokenizer.json (or tokenizer.model) and config.json beside the weights",
        ) from error
    ends = {tokenizer.eos_token_id, *_listed(getattr(config, "eos_token_id", None))}
    generation = Path(place) / "generation_config.json"
    if local and generation.exists():
        ends.update(_listed(json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")))
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    return Encoder(tokenizer, frozenset(int(end) for end in ends if end is not None), most)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
