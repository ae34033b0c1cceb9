"""Encoders: features to states, behind one small interface."""

import math
from typing import Final, NamedTuple

from torch import Tensor, nn

from xlst_ray.model.conformer import ConformerLayer, distances
from xlst_ray.model.dropout import Dropout
from xlst_ray.model.layers import EncoderLayer, Subsampler, positions, valid
from xlst_ray.model.options import Architecture, EncoderKind


class Encoded(NamedTuple):
    """An encoder's result: states (B, S, D), which are no padding before lengths (B)."""

    states: Tensor
    lengths: Tensor


class SpeechEncoder(nn.Module):
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

    def encode(self, x: Tensor, real: Tensor) -> Tensor:
        """Subsampled features (B, S, D), which of them are no padding (B, S) -> states (B, S, D)."""
        raise NotImplementedError

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Encoder steps (B) of utterances of `lengths` frames (B)."""
        return self.conv.output_lengths(lengths)


class TransformerEncoder(SpeechEncoder):
    """Absolute positions, pre-norm layers, a last norm: `s2t_transformer`'s."""

    def __init__(self, architecture: Architecture, input_dim: int) -> None:
        super().__init__(architecture, input_dim)
        self.layers = nn.ModuleList(EncoderLayer(architecture) for _ in range(architecture.encoder_layers))
        self.layer_norm = nn.LayerNorm(architecture.dim)

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


ENCODERS: Final[dict[EncoderKind, type[SpeechEncoder]]] = {
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
}


def make_encoder(architecture: Architecture, input_dim: int) -> SpeechEncoder:
    """The encoder that an architecture names, for features of F = `input_dim`."""
    return ENCODERS[architecture.encoder](architecture, input_dim)
