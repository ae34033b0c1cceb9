"""Encoders: features to states, behind one small interface."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self, TypeAlias

from torch import Tensor, nn

from xlst_ray.audio.decode import Wave
from xlst_ray.audio.fbank import utterance_cmvn
from xlst_ray.model.conformer import ConformerLayer, distances
from xlst_ray.model.dropout import Dropout
from xlst_ray.model.layers import EncoderLayer, Subsampler, positions, valid
from xlst_ray.model.linear import LayerNorm
from xlst_ray.model.options import Architecture, EncoderKind

Frontend: TypeAlias = Callable[[Wave], Tensor]


class Encoded(NamedTuple):
    """An encoder's result: states (B, S, D), which are no padding before lengths (B)."""

    states: Tensor
    lengths: Tensor


class SpeechEncoder(nn.Module, ABC):
    """What a model asks of its encoder: states, and how many of them there will be.

    The states of an utterance do not depend on the others of its batch. This class has the part before the layers.
    """

    def __init__(self, architecture: Architecture, input_dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(architecture.dim)
        self.conv = Subsampler(architecture, input_dim)
        self.dropout = Dropout(architecture.dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(B, T, F), (B) -> states (B, S, D), lengths (B)."""
        x, lengths = self.conv(features, lengths)
        return Encoded(self.encode(x * self.scale, valid(lengths, x.shape[1])), lengths)

    @abstractmethod
    def encode(self, x: Tensor, real: Tensor) -> Tensor:
        """Subsampled features (B, S, D), which of them are no padding (B, S) -> states (B, S, D)."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Encoder steps (B) of utterances of `lengths` frames (B)."""
        return self.conv.output_lengths(lengths)


class TransformerEncoder(SpeechEncoder):
    """Absolute positions, pre-norm layers, a last norm: `s2t_transformer`'s."""

    def __init__(self, architecture: Architecture, input_dim: int) -> None:
        super().__init__(architecture, input_dim)
        self.layers = nn.ModuleList(EncoderLayer(architecture) for _ in range(architecture.encoder_layers))
        self.layer_norm = LayerNorm(architecture.dim)

    def encode(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.dropout(x + positions(0, x.shape[1], x))
        mask = real[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        states: Tensor = self.layer_norm(x)
        return states


class ConformerEncoder(SpeechEncoder):
    """Conformer layers with relative positions, each of which ends in a norm: fairseq's `s2t_conformer`."""

    def __init__(self, architecture: Architecture, input_dim: int) -> None:
        super().__init__(architecture, input_dim)
        self.layers = nn.ModuleList(ConformerLayer(architecture) for _ in range(architecture.encoder_layers))

    def encode(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.dropout(x)
        apart = self.dropout(distances(x.shape[1], x))
        for layer in self.layers:
            x = layer(x, apart, real)
        return x


class PretrainedEncoder(nn.Module, ABC):
    """An encoder of others', with features of its own (`pretrained.py`).

    Attributes:
        frontend: a wave (N,) at 16 kHz -> its features (T, F), a row every 10 ms. Picklable.
        input_dim: F. dim: D of the states.
        longest: samples of an utterance that it hears; none: all.
        frozen: it stays in evaluation mode.
    """

    frontend: Frontend
    input_dim: int
    dim: int
    longest: int | None = None
    frozen: bool = False

    @abstractmethod
    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(B, T, F), zero behind each utterance's end, lengths (B) in frames -> states (B, S, D), lengths (B)."""

    @abstractmethod
    def output_lengths(self, lengths: Tensor) -> Tensor:
        """States (B) of utterances of `lengths` frames (B)."""

    @abstractmethod
    def depth(self, name: str) -> int:
        """Layers from the top of the encoder down to a parameter: 1 in the uppermost, most below the lowest."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What it takes to build it again, as JSON values."""

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.frozen)


class StackedEncoder(nn.Module):
    """An encoder of ours on the states of a pretrained one, normalised over the utterance as filterbanks are.

    It computes what a model on cached states does (`xlst_ray.stages.encode`), whose parameters are those of `top`.
    """

    def __init__(self, pretrained: PretrainedEncoder, top: SpeechEncoder) -> None:
        super().__init__()
        self.pretrained, self.top = pretrained, top

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(B, T, F), (B) -> states (B, S, D), lengths (B)."""
        states, lengths = self.pretrained(features, lengths)
        encoded: Encoded = self.top(utterance_cmvn(states.float(), lengths), lengths)
        return encoded

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return self.top.output_lengths(self.pretrained.output_lengths(lengths))


def depths(model: nn.Module) -> dict[str, int]:
    """`PretrainedEncoder.depth` of the parameters of a model that has one, by their names in the model."""
    encoders = [(f"{name}.", part) for name, part in model.named_modules() if isinstance(part, PretrainedEncoder)]
    return {
        prefix + name: encoder.depth(name) for prefix, encoder in encoders for name, _ in encoder.named_parameters()
    }


ENCODERS: Final[dict[EncoderKind, type[SpeechEncoder]]] = {
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
}


def make_encoder(architecture: Architecture, input_dim: int) -> SpeechEncoder:
    """The encoder that an architecture names, for features of F = `input_dim`."""
    return ENCODERS[architecture.encoder](architecture, input_dim)
