"""The single door of this room to transformers.

It imports torchaudio wherever that is installed, and torchaudio cannot be imported beside a CPU build of torch until
`xlst_ray.audio._torchaudio` has mended it. Without torchaudio there is nothing to mend.
"""

import importlib.util

if importlib.util.find_spec("torchaudio") is not None:
    importlib.import_module("xlst_ray.audio._torchaudio")

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

logging.disable_progress_bar()  # a bar a file, where jobs have progress lines of their own

__all__ = [
    "AutoConfig",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "LlamaConfig",
    "LlamaForCausalLM",
    "PreTrainedTokenizerFast",
]
