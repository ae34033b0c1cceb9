"""A small decoder-only translation model, kept as an ordinary transformers folder that any LLM engine can serve.

A pair reads `<s> source <sep> target </s>`. For an engine that is a prompt string, `{source}<sep>`, after which the
model writes the translation and stops at `</s>`; `<s>` comes from the tokenizer. The prompt and the languages stand in
`xlst_mt.json` beside the model. The architecture is Llama (Touvron et al. 2023), the subwords byte-level BPE (GPT-2),
in which every character of every script has a spelling.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from xlst_ray import storage
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError
from xlst_ray.mt._transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from xlst_ray.mt.lm_info import BOS, EOS, INFO_FILE, PAD, SEP, SPECIALS, LMInfo


class LMOptions(Section):
    """The translation model. The defaults are some 1M parameters, for a few thousand pairs of a narrow domain."""

    dim: int = option(128, "model dimension D", ge=8)
    layers: int = option(3, "layers", ge=1)
    heads: int = option(4, "attention heads", ge=1)
    ffn: int = option(384, "inner dimension of the feed-forward part", ge=1)
    vocabulary: int = option(1000, "subwords V, the 256 bytes and 4 special tokens included", ge=300, unit="tokens")
    dropout: float = option(0.1, "dropout of attention weights", ge=0, lt=1)
    max_length: int = option(256, "longest source and translation together", ge=16, unit="tokens")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"dim {self.dim} must be a multiple of twice the heads ({self.heads}), for rotary positions"
            )
        return self


def device_of(*, gpu: bool) -> torch.device:
    """Where a model of this room computes: Ray shows a process without a GPU of its own those of others, too."""
    return torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")


def train_tokenizer(texts: Iterable[str], options: LMOptions) -> Any:
    """Byte-level BPE over the sentences of both languages; the same texts give the same tokenizer.

    Returns:
        A `PreTrainedTokenizerFast` that puts `<s>` before a prompt and pads on the left, as generation wants it.
    """
    tokenizer = Tokenizer(models.BPE())
    # A space before the first word too, so that a word is spelled alike everywhere in a sentence.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[SEP],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=options.max_length,
    )


def build_lm(options: LMOptions, tokenizer: Any, seed: int) -> Any:
    """A `LlamaForCausalLM` with initial weights that are a function of the seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.dim,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.ffn,
        attention_dropout=options.dropout,
        max_position_embeddings=options.max_length,
        tie_word_embeddings=True,
        initializer_range=options.dim**-0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def save_lm(folder: Path, model: Any, tokenizer: Any, info: LMInfo) -> None:
    """Write the transformers folder: the files of `xlst_ray.mt.options.MODEL_FILES`, weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    storage.write_json(str(folder / INFO_FILE), dataclasses.asdict(info))


def load_lm(folder: Path) -> tuple[Any, Any]:
    """Model (evaluation mode, CPU) and tokenizer of a local folder; nothing is fetched.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, tokenizers and safetensors raise bare Exceptions of many kinds
        raise DataError(f"cannot be loaded as a transformers model ({error})", where=str(folder)) from error
    return model.eval(), tokenizer
