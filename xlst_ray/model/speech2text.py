"""The folder layout of transformers' `Speech2TextForConditionalGeneration`, read and written without transformers.

The public checkpoints of fairseq's S2T have this layout, so they can start a training; a model that is exported to it
runs in transformers' `pipeline("automatic-speech-recognition")`. A CTC head is not part of it and lies beside it in
`ctc.safetensors`. The tokenizer's files are `xlst_ray.text.speech2text`'s.
"""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlst_ray.errors import DataError
from xlst_ray.model.layers import KERNEL
from xlst_ray.model.options import Architecture
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BOS, EOS, PAD

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
OLD_WEIGHTS: Final = "pytorch_model.bin"
CTC: Final = "ctc.safetensors"
STRIDE: Final = 2  # of every convolution there
MAX_TOKENS: Final = 200  # of a hypothesis by `generate`, as the public checkpoints have it

_PREFIX: Final = "model."
_PROJECTION: Final = "lm_head.weight"
_EMBEDDING: Final = "decoder.embed_tokens.weight"

# What the architecture fixes here and is a setting there; and the settings' defaults, which a file may leave out.
_FIXED: Final = {
    "model_type": "speech_to_text",
    "activation_function": "relu",
    "scale_embedding": True,
    "input_channels": 1,
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": EOS,
}
_DEFAULTS: Final = {
    **{name: value for name, value in _FIXED.items() if name != "model_type"},
    "vocab_size": 10_000,
    "d_model": 256,
    "encoder_layers": 12,
    "decoder_layers": 6,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "conv_channels": 1024,
    "conv_kernel_sizes": [5, 5],
    "input_feat_per_channel": 80,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}


def is_speech2text(folder: Path) -> bool:
    """Whether a folder claims the layout of a transformers model."""
    return (folder / CONFIG).is_file()


def save_speech2text(folder: Path, model: S2TModel, start: int = EOS) -> None:
    """Writes configuration, weights and feature extractor; the folder is made where there is none.

    `start` is the token that the decoder starts from.

    Raises:
        DataError: the model is none that transformers has.
    """
    starts = {"decoder_start_token_id": start}
    config = _config_of(model) | starts
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    head = {name: state.pop(name) for name in list(state) if name.startswith("ctc.")}
    save_file({_PREFIX + name: tensor for name, tensor in state.items()}, folder / WEIGHTS, {"format": "pt"})
    if head:
        save_file(head, folder / CTC)
    _write_json(folder / CONFIG, config)
    _write_json(folder / "generation_config.json", _GENERATION | starts)
    _write_json(folder / "preprocessor_config.json", _EXTRACTOR | {"num_mel_bins": model.input_dim})


def load_speech2text(folder: Path) -> S2TModel:
    """The model of a folder, on the CPU, in evaluation mode; with a CTC head where `ctc.safetensors` is there.

    Raises:
        DataError: a file is missing or damaged, or the model is of another kind than ours.
    """
    config = _read_config(folder)
    weights = _read_weights(folder)
    if (folder / CTC).is_file():
        weights |= _read_safetensors(folder / CTC)
    try:
        model = S2TModel(
            _architecture_of(config, ctc="ctc.weight" in weights),
            config["vocab_size"],
            config["input_feat_per_channel"],
        )
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"the weights are not what {CONFIG} describes: {error}", where=str(folder)) from None
    return model.eval()


def _config_of(model: S2TModel) -> dict[str, Any]:
    figures = model.architecture
    if model.pretrained is not None:
        raise DataError("transformers' Speech2Text has no pretrained encoder", hint="it cannot be exported")
    if figures.encoder != "transformer":
        raise DataError(f"transformers' Speech2Text has no {figures.encoder} encoder", hint="it cannot be exported")
    if set(figures.strides) != {STRIDE}:
        raise DataError(
            f"transformers' Speech2Text has convolutions of stride {STRIDE}, this model {list(figures.strides)}",
            hint="only models with model.strides=[2,2] (or more twos) can be exported",
        )
    return {
        **_FIXED,
        "architectures": ["Speech2TextForConditionalGeneration"],
        "vocab_size": model.vocabulary_size,
        "d_model": figures.dim,
        "encoder_layers": figures.encoder_layers,
        "decoder_layers": figures.decoder_layers,
        "encoder_ffn_dim": figures.ffn_dim,
        "decoder_ffn_dim": figures.ffn_dim,
        "encoder_attention_heads": figures.heads,
        "decoder_attention_heads": figures.heads,
        "num_conv_layers": len(figures.strides),
        "conv_kernel_sizes": [KERNEL] * len(figures.strides),
        "conv_channels": figures.conv_channels,
        "input_feat_per_channel": model.input_dim,
        "dropout": figures.dropout,
        "attention_dropout": figures.attention_dropout,
        "activation_dropout": figures.activation_dropout,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "dtype": str(model.decoder.embed_tokens.weight.dtype).removeprefix("torch."),
    }


def _architecture_of(config: dict[str, Any], *, ctc: bool) -> Architecture:
    return Architecture(
        dim=config["d_model"],
        ffn_dim=config["encoder_ffn_dim"],
        heads=config["encoder_attention_heads"],
        encoder_layers=config["encoder_layers"],
        decoder_layers=config["decoder_layers"],
        conv_channels=config["conv_channels"],
        strides=(STRIDE,) * len(config["conv_kernel_sizes"]),
        dropout=config["dropout"],
        attention_dropout=config["attention_dropout"],
        activation_dropout=config["activation_dropout"],
        ctc=ctc,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """The settings, checked to be those of an architecture that is ours."""
    path = folder / CONFIG
    try:
        config = {**_DEFAULTS, **json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
    wrong = [
        f"{name} is {config.get(name)!r}, not {value!r}" for name, value in _FIXED.items() if config.get(name) != value
    ]
    for one, other in (("encoder_ffn_dim", "decoder_ffn_dim"), ("encoder_attention_heads", "decoder_attention_heads")):
        if config[one] != config[other]:
            wrong.append(f"{one} ({config[one]}) is not {other} ({config[other]})")
    if set(config["conv_kernel_sizes"]) != {KERNEL}:
        wrong.append(f"conv_kernel_sizes are {config['conv_kernel_sizes']}, not {KERNEL} each")
    if wrong:
        raise DataError(
            f"is no s2t_transformer: {'; '.join(wrong)}",
            where=str(path),
            hint="fairseq's s2t_transformer checkpoints in transformers' Speech2Text layout can be read",
        )
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """By our names, in float32. The output projection must be the embedding, as it is here."""
    if (folder / WEIGHTS).is_file():
        found = _read_safetensors(folder / WEIGHTS)
    elif (folder / OLD_WEIGHTS).is_file():
        found = torch.load(folder / OLD_WEIGHTS, "cpu", weights_only=True)
    else:
        raise DataError(f"neither {WEIGHTS} nor {OLD_WEIGHTS} is there", where=str(folder))
    projection = found.pop(_PROJECTION, None)
    weights = {
        name.removeprefix(_PREFIX): tensor.float()
        for name, tensor in found.items()
        if not name.endswith(".embed_positions.weights")  # older files hold the sinusoids too
    }
    if projection is not None and not torch.equal(projection.float(), weights.get(_EMBEDDING, torch.empty(0))):
        raise DataError(f"{_PROJECTION} is not the embedding, to which it is tied here", where=str(folder))
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
    return tensors


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


_GENERATION: Final[dict[str, Any]] = {
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": EOS,
    "suppress_tokens": [BOS, PAD],
    "num_beams": 5,
    "early_stopping": False,
    "min_new_tokens": 1,
    "max_length": MAX_TOKENS,
}
_EXTRACTOR: Final[dict[str, Any]] = {
    "feature_extractor_type": "Speech2TextFeatureExtractor",
    "processor_class": "Speech2TextProcessor",
    "sampling_rate": 16_000,
    "feature_size": 80,
    "padding_value": 0.0,
    "padding_side": "right",
    "do_ceptral_normalize": True,  # so spelt there
    "normalize_means": True,
    "normalize_vars": True,
    "return_attention_mask": True,
}
