"""Small untrained models of quality estimation, in the layouts that transformers saves them in."""

import importlib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

importlib.import_module("xlst_ray.mt._transformers")  # first, for transformers imports torchaudio, which this mends

from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

WORDS = (
    "the old cat house is red sleeps in here a small",
    "vanha kissa talo on punainen nukkuu tässä pieni",
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def save_quality_model(folder: Path, kind: str = "xlm-roberta", outputs: int = 1, seed: int = 0) -> Path:
    """`xlm-roberta`: pairs as `<s> A </s></s> B </s>`, as MonoTransQuest; `bert`: with types of tokens."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*specials, *" ".join(WORDS).split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    second = "<s> $A </s> </s> $B </s>" if kind == "xlm-roberta" else "<s>:0 $A:0 </s>:0 $B:1 </s>:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=second, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (kind == "bert")
    given: dict[str, Any] = {"unk_token": "<unk>", "pad_token": "<pad>", "model_input_names": names}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **given).save_pretrained(folder)
    torch.manual_seed(seed)
    about: dict[str, Any] = {"vocab_size": len(vocabulary), "num_labels": outputs, "pad_token_id": 1, **SIZES}
    model = (
        XLMRobertaForSequenceClassification(XLMRobertaConfig(max_position_embeddings=26, **about))
        if kind == "xlm-roberta"
        else BertForSequenceClassification(BertConfig(max_position_embeddings=24, **about))
    )
    for parameter in model.parameters():  # as they come, two pairs would hardly differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
