"""Pretrained encoders of random weights and debug size, as folders of transformers; and real ones where they are."""

import os
from pathlib import Path
from typing import Any

import torch

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch

# isort: split
from transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

KINDS = ("whisper", "wav2vec2", "xls-r", "w2v-bert")
WHEELS = os.environ.get("WHISPER_WHEELS")
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
CONVOLUTIONS: dict[str, Any] = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def write_encoder(folder: Path, kind: str) -> Path:
    """A folder as `save_pretrained` writes it, of a model with a head or a decoder around the encoder."""
    torch.manual_seed(len(kind))
    if kind == "whisper":
        sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), 3) | dict.fromkeys(
            ("encoder_attention_heads", "decoder_attention_heads"), 2
        )
        ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        config = WhisperConfig(d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=20, **sizes, **ids)
        WhisperForConditionalGeneration(config).save_pretrained(folder)
        WhisperFeatureExtractor().save_pretrained(folder)
    elif kind == "w2v-bert":
        config = Wav2Vec2BertConfig(**SMALL, feature_projection_input_dim=160, conv_depthwise_kernel_size=7)
        Wav2Vec2BertModel(config).save_pretrained(folder)
        SeamlessM4TFeatureExtractor().save_pretrained(folder)
    else:  # layer norms in every convolution, and before every layer, where it is as large as XLS-R
        large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if kind == "xls-r" else {}
        Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL, **CONVOLUTIONS, **large, vocab_size=20)).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
