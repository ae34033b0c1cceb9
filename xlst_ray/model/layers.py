"""The parts of `s2t_transformer`: subsampler, positions, pre-norm layers, named as in transformers' Speech2Text."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlst_ray.model.attention import Attention, KeysValues
from xlst_ray.model.dropout import Dropout
from xlst_ray.model.linear import LayerNorm, Linear
from xlst_ray.model.options import Architecture
from xlst_ray.text.ids import PAD

KERNEL = 5  # fairseq's --conv-kernel-sizes 5,5


def valid(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool: true before the length of each row."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def positions(start: int, count: int, like: Tensor) -> Tensor:
    """Sinusoidal positions (count, D) from step `start` on, in the dtype and on the device of `like` (..., D).

    Half sines, half cosines, as tensor2tensor has them; the first step has number PAD + 1, as in fairseq.
    """
    half = like.shape[-1] // 2
    numbers = torch.arange(start, start + count, device=like.device, dtype=torch.float32) + PAD + 1
    rates = torch.exp(torch.arange(half, device=like.device) * -(math.log(10_000) / (half - 1)))
    angles = numbers[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


class Subsampler(nn.Module):
    """Strided convolutions with gated linear units (Synnaeve et al. 2020, arXiv 1911.08460): frames to encoder steps.

    What lies beyond an utterance's end is zeroed before each convolution, so that the result does not depend on the
    other utterances of a batch. fairseq does not: there the last step of a padded utterance differs from the same
    utterance alone, which is what ours equals.
    """

    def __init__(self, architecture: Architecture, input_dim: int) -> None:
        super().__init__()
        self.strides = architecture.strides
        inner = len(self.strides) - 1
        ins = [input_dim] + [architecture.conv_channels // 2] * inner
        outs = [architecture.conv_channels] * inner + [2 * architecture.dim]
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(i, o, KERNEL, stride, KERNEL // 2) for i, o, stride in zip(ins, outs, self.strides, strict=True)
        )

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B) -> (B, S, D), (B)."""
        x = features.transpose(1, 2)
        for conv, stride in zip(self.conv_layers, self.strides, strict=True):
            x = F.glu(conv(x.masked_fill(~valid(lengths, x.shape[2])[:, None], 0)), dim=1)
            lengths = steps(lengths, stride)
        # In one piece, or every sum of residuals behind it would be laid out as the convolution's result is.
        return x.transpose(1, 2).contiguous(), lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Encoder steps S of utterances of `lengths` frames."""
        for stride in self.strides:
            lengths = steps(lengths, stride)
        return lengths


def steps(lengths: Tensor, stride: int) -> Tensor:
    """Length after a convolution with padding of half its kernel."""
    return (lengths - 1) // stride + 1


class _Layer(nn.Module):
    """What encoder and decoder layers share: self-attention's parameters and the feed-forward block."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim = architecture.dim
        self.self_attn = Attention(dim, architecture.heads, architecture.attention_dropout)
        self.self_attn_layer_norm = LayerNorm(dim)
        self.fc1 = Linear(dim, architecture.ffn_dim)
        self.fc2 = Linear(architecture.ffn_dim, dim)
        self.final_layer_norm = LayerNorm(dim)
        self.dropout = Dropout(architecture.dropout)
        self.activation_dropout = Dropout(architecture.activation_dropout)

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self.activation_dropout(F.relu(self.fc1(self.final_layer_norm(x))))
        output: Tensor = x + self.dropout(self.fc2(inner))
        return output


class EncoderLayer(_Layer):
    """Self-attention and feed-forward, each behind its norm."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, S, D), mask of what is attended to (B, 1, 1, S) -> (B, S, D)."""
        x = x + self.dropout(self.self_attn.look(*self.self_attn.of_itself(self.self_attn_layer_norm(x)), mask))
        return self._feed_forward(x)


class DecoderLayer(_Layer):
    """Self-attention, attention to the encoder and feed-forward, each behind its norm."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.encoder_attn = Attention(architecture.dim, architecture.heads, architecture.attention_dropout)
        self.encoder_attn_layer_norm = LayerNorm(architecture.dim)

    def forward(
        self, x: Tensor, mask: Tensor, encoded: KeysValues, encoded_mask: Tensor, past: KeysValues | None = None
    ) -> Tensor:
        """(B, U, D) -> (B, U, D).

        Args:
            mask: which tokens a token sees, broadcast to (B, heads, U, tokens).
            encoded: the encoder's states as this layer's keys and values.
            encoded_mask: which of them are no padding, (B, 1, 1, S).
            past: tensors with room for this layer's keys and values of earlier tokens, (B, heads, tokens, D / heads);
                those of `x` are written behind them in place. None: `x` is all there is.
        """
        queries, seen = self.self_attn.of_itself(self.self_attn_layer_norm(x))
        if past is not None:
            for kept, new in zip(past, seen, strict=True):
                kept[:, :, -new.shape[2] :] = new
            seen = past
        x = x + self.dropout(self.self_attn.look(queries, seen, mask))
        x = x + self.dropout(self.encoder_attn(self.encoder_attn_layer_norm(x), encoded, encoded_mask))
        return self._feed_forward(x)
