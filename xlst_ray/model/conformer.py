"""Conformer layers (Gulati et al., Interspeech 2020) with relative positions (Dai et al., ACL 2019, section 3.3).

As in fairseq and in transformers' Wav2Vec2Conformer, but for the norm within the convolution: a LayerNorm where they
have a BatchNorm, so that what an utterance gives depends neither on its batch nor on padding, ranks and accumulation
change no gradient, and a checkpoint has nothing but parameters. wav2vec-BERT 2.0 does the same.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlst_ray.model.attention import Projections, attend
from xlst_ray.model.dropout import Dropout
from xlst_ray.model.linear import LayerNorm, Linear
from xlst_ray.model.options import Architecture


def distances(steps: int, like: Tensor) -> Tensor:
    """Sinusoids of the distances from S - 1 down to 1 - S, (2 S - 1, D), sines and cosines in turn."""
    dim = like.shape[-1]
    apart = torch.arange(steps - 1, -steps, -1, device=like.device, dtype=torch.float32)
    rates = torch.exp(torch.arange(0, dim, 2, device=like.device) * -(math.log(10_000) / dim))
    angles = apart[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).to(like.dtype)


class RelativeAttention(Projections):
    """Self-attention whose scores also depend on how far apart two steps are."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        self.pos_proj = Linear(dim, dim, bias=False)
        self.bias_u = nn.Parameter(torch.empty(heads, dim // heads))
        self.bias_v = nn.Parameter(torch.empty(heads, dim // heads))
        for parameter in (self.pos_proj.weight, self.bias_u, self.bias_v):
            nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, apart: Tensor, real: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D).

        Args:
            apart: `distances` of S steps. real: which steps are no padding, (B, S).
        """
        queries, seen = self.of_itself(x)
        by_distance = self.split(self.pos_proj(apart)[None]).transpose(-1, -2)  # 1, heads, D / heads, 2 S - 1
        scores = (queries + self.bias_v[:, None]) * queries.shape[-1] ** -0.5 @ by_distance
        bias = _by_step(scores).masked_fill(~real[:, None, None], torch.finfo(scores.dtype).min)
        dropout = self.dropout if self.training else 0.0
        return self.join(attend(queries + self.bias_u[:, None], seen, bias, dropout))


def _by_step(scores: Tensor) -> Tensor:
    """Scores by distance (B, heads, S, 2 S - 1) -> by step (B, heads, S, S): row i begins at distance i."""
    steps = scores.shape[2]
    # One more column makes each row begin one place later than the one above it (Dai et al., appendix B).
    shifted = F.pad(scores, (1, 0)).flatten(2)[:, :, steps:]
    return shifted.view(*scores.shape)[..., :steps]


class Convolution(nn.Module):
    """Gated pointwise, depthwise, norm, Swish, pointwise."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim, kernel = architecture.dim, architecture.depthwise_kernel
        self.layer_norm = LayerNorm(dim)
        self.pointwise_conv1 = Linear(dim, 2 * dim, bias=False)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
        self.depthwise_norm = LayerNorm(dim)
        self.pointwise_conv2 = Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """(B, S, D), which steps are no padding (B, S) -> (B, S, D)."""
        x = F.glu(self.pointwise_conv1(self.layer_norm(x)), dim=-1)
        x = x.masked_fill(~real[:, :, None], 0)
        x = self.depthwise_conv(x.transpose(1, 2)).transpose(1, 2)
        output: Tensor = self.pointwise_conv2(F.silu(self.depthwise_norm(x)))
        return output


class FeedForward(nn.Module):
    """Norm, Swish, two projections."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(architecture.dim)
        self.fc1 = Linear(architecture.dim, architecture.ffn_dim)
        self.fc2 = Linear(architecture.ffn_dim, architecture.dim)
        self.activation_dropout = Dropout(architecture.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        output: Tensor = self.fc2(self.activation_dropout(F.silu(self.fc1(self.layer_norm(x)))))
        return output


class ConformerLayer(nn.Module):
    """Half a feed-forward block, self-attention, convolution, the other half, a norm."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim = architecture.dim
        self.ffn1 = FeedForward(architecture)
        self.self_attn_layer_norm = LayerNorm(dim)
        self.self_attn = RelativeAttention(dim, architecture.heads, architecture.attention_dropout)
        self.conv_module = Convolution(architecture)
        self.ffn2 = FeedForward(architecture)
        self.final_layer_norm = nn.LayerNorm(dim)  # of the sum of residuals, which stays float32
        self.dropout = Dropout(architecture.dropout)

    def forward(self, x: Tensor, apart: Tensor, real: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D); `apart`, `real` as in `RelativeAttention`."""
        x = x + 0.5 * self.dropout(self.ffn1(x))
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), apart, real))
        x = x + self.dropout(self.conv_module(x, real))
        x = x + 0.5 * self.dropout(self.ffn2(x))
        output: Tensor = self.final_layer_norm(x)
        return output
