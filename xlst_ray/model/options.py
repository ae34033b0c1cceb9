"""The size of a model: named sizes as fairseq has them, single figures overridden, resolved into an `Architecture`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from xlst_ray.config import Section, absolute, option
from xlst_ray.errors import ConfigError


def _place(name: str) -> str:
    return absolute(name) if Path(name).expanduser().is_dir() else name


# A folder as seen from everywhere, or what is none: a name on the Hub.
EncoderName = Annotated[str, AfterValidator(_place)]
Size = Literal["debug", "xs", "s", "s-deep", "m", "l"]
EncoderKind = Literal["transformer", "conformer"]


@dataclass(frozen=True)
class Architecture:
    """All that the shape of a model depends on, its vocabulary and features apart. Lies beside the weights as JSON.

    Attributes:
        dim: model dimension D. ffn_dim: inner dimension of the feed-forward blocks. heads: attention heads.
        conv_channels: channels of the subsampler's inner convolutions, before their gates.
        strides: stride of each convolution; encoder steps are shorter than frames by their product.
        dropout, attention_dropout, activation_dropout: probabilities in training.
        ctc: a linear CTC head on the encoder.
        encoder: which one; `depthwise_kernel` is the Conformer's.
    """

    dim: int
    ffn_dim: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    conv_channels: int = 1024
    strides: tuple[int, ...] = (2, 2)
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    ctc: bool = True
    encoder: EncoderKind = "transformer"
    depthwise_kernel: int = 31

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "strides": list(self.strides)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises `ConfigError` where a figure is missing or unknown, as in a file of another version."""
        try:
            return cls(**{**values, "strides": tuple(values["strides"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"not an architecture of this version ({error})", hint=f"it needs {', '.join(cls.__annotations__)}"
            ) from None


def _size(
    dim: int, ffn_dim: int, heads: int, layers: tuple[int, int], dropout: float, conv_channels: int = 1024
) -> Architecture:
    encoder_layers, decoder_layers = layers
    return Architecture(
        dim, ffn_dim, heads, encoder_layers, decoder_layers, conv_channels, (2, 2), dropout, dropout, dropout
    )


# fairseq, examples/speech_to_text, `s2t_transformer_*`. Ours are `debug`, which runs in seconds and has no dropout, and
# `s-deep`: as many parameters as `s`, but a decoder of one layer, which recognises faster (Kasai et al., ICLR 2021).
SIZES: Final[dict[Size, Architecture]] = {
    "debug": _size(64, 128, 2, (2, 1), 0.0, conv_channels=128),
    "xs": _size(256, 1024, 4, (6, 3), 0.3),
    "s": _size(256, 2048, 4, (12, 6), 0.1),
    "s-deep": _size(256, 2048, 4, (18, 1), 0.1),
    "m": _size(512, 2048, 8, (12, 6), 0.15),
    "l": _size(1024, 4096, 16, (12, 6), 0.2),
}


class PretrainedOptions(Section):
    """A pretrained encoder in the model, below the encoder that is ours, which reads its states."""

    path: EncoderName | None = option(
        None, "folder of an encoder of transformers, or its name on the Hugging Face Hub, as of jobs/encode.py"
    )
    revision: str | None = option(None, "commit, branch or tag on the Hub; none: the newest")
    layers: int | None = option(None, "its lowest layers, which are used; none: all", unit="layers", ge=1)
    frozen: bool = option(False, "none of it trains, and nothing in it drops out")
    frozen_layers: int = option(
        0, "so many of its lowest layers do not train, nor what lies below them", unit="layers", ge=0
    )


class ModelOptions(Section):
    """`s2t_transformer` in a named size, or with another encoder; what is none comes from the size."""

    size: Size = option(
        "s",
        "named size: debug, or fairseq's s2t_transformer_xs, _s (30M parameters with 10k tokens), _m, _l; "
        "s-deep: as large as s, 18 layers of encoder and 1 of decoder",
    )
    encoder: EncoderKind = option(
        "transformer", "conformer: convolution and relative positions in each layer; 43M parameters in size s"
    )
    depthwise_kernel: int = option(31, "kernel of a Conformer's depthwise convolutions", unit="encoder steps", ge=1)
    dim: int | None = option(None, "model dimension", ge=4)
    ffn_dim: int | None = option(None, "inner dimension of the feed-forward blocks", ge=1)
    heads: int | None = option(None, "attention heads", ge=1)
    encoder_layers: int | None = option(None, "layers of the encoder", ge=1)
    decoder_layers: int | None = option(None, "layers of the decoder", ge=1)
    conv_channels: int | None = option(None, "inner channels of the subsampler, before their gates", ge=2)
    dropout: float | None = option(None, "dropout after embeddings and blocks", ge=0, lt=1)
    attention_dropout: float | None = option(None, "dropout of attention weights; none: as dropout", ge=0, lt=1)
    activation_dropout: float | None = option(None, "dropout after ReLU; none: as dropout", ge=0, lt=1)
    strides: tuple[int, ...] = option((2, 2), "stride of each convolution of the subsampler", min_length=1)
    pretrained: PretrainedOptions = option(PretrainedOptions, "a pretrained encoder below, in the model", added=True)
    ctc: bool = option(True, "a CTC head on the encoder, for the joint loss and for greedy CTC decoding")

    def architecture(self) -> Architecture:
        """All figures resolved."""
        size = SIZES[self.size]
        dropout = size.dropout if self.dropout is None else self.dropout
        return Architecture(
            dim=self.dim or size.dim,
            ffn_dim=self.ffn_dim or size.ffn_dim,
            heads=self.heads or size.heads,
            encoder_layers=self.encoder_layers or size.encoder_layers,
            decoder_layers=self.decoder_layers or size.decoder_layers,
            conv_channels=self.conv_channels or size.conv_channels,
            strides=self.strides,
            dropout=dropout,
            attention_dropout=dropout if self.attention_dropout is None else self.attention_dropout,
            activation_dropout=dropout if self.activation_dropout is None else self.activation_dropout,
            ctc=self.ctc,
            encoder=self.encoder,
            depthwise_kernel=self.depthwise_kernel,
        )

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        built = self.architecture()
        if built.dim % built.heads or built.dim % 2:
            raise ValueError(f"dim {built.dim} must be even and a multiple of the heads ({built.heads})")
        if built.conv_channels % 2:
            raise ValueError(f"conv_channels {built.conv_channels} must be even: half of them are gates")
        if built.depthwise_kernel % 2 == 0:
            raise ValueError(f"depthwise_kernel {built.depthwise_kernel} must be odd, to have a middle")
        if min(built.strides) < 1:
            raise ValueError(f"strides {list(built.strides)} must be 1 or more each")
        return self
