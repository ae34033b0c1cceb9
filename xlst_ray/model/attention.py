"""Multi-head attention, with keys and values apart from queries so that a decoder can keep them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlst_ray.model.dropout import drop
from xlst_ray.model.linear import Linear, together


class KeysValues(NamedTuple):
    """What is attended to: keys and values, each (B, heads, S, D / heads)."""

    keys: Tensor
    values: Tensor


class Projections(nn.Module):
    """What attention over `heads` projects: fairseq's `MultiheadAttention`, its initialisation included."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.q_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)
        for projection in (self.k_proj, self.v_proj, self.q_proj):
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def keys_values(self, states: Tensor) -> KeysValues:
        """The keys and values of states (B, S, D)."""
        return KeysValues(*map(self.split, together(states, self.k_proj, self.v_proj)))

    def of_itself(self, x: Tensor) -> tuple[Tensor, KeysValues]:
        """Queries of (B, U, D) (B, heads, U, D / heads), and its own keys and values for them."""
        queries, keys, values = map(self.split, together(x, self.q_proj, self.k_proj, self.v_proj))
        return queries, KeysValues(keys, values)

    def split(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B, heads, U, D / heads)."""
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def join(self, found: Tensor) -> Tensor:
        """(B, heads, U, D / heads) -> (B, U, D), through the output projection."""
        joined: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return joined


class Attention(Projections):
    """Scaled dot-product attention."""

    def forward(self, x: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
        """Attends from `x` (B, U, D) to `seen`, where `mask` (broadcast to (B, heads, U, S)) is true; none: all."""
        return self.look(self.split(self.q_proj(x)), seen, mask)

    def look(self, queries: Tensor, seen: KeysValues, mask: Tensor | None) -> Tensor:
        """`forward` of queries (B, heads, U, D / heads)."""
        return self.join(attend(queries, seen, mask, self.dropout if self.training else 0.0))


def attend(queries: Tensor, seen: KeysValues, mask: Tensor | None, dropout: float) -> Tensor:
    """Of queries (B, heads, U, D / heads). `mask`: booleans, true where a key is seen, or what is added to scores."""
    if dropout > 0 and queries.device.type == "cpu":
        return _attend_with_cheap_dropout(queries, seen, mask, dropout)
    return F.scaled_dot_product_attention(queries, *seen, attn_mask=mask, dropout_p=dropout)


def _attend_with_cheap_dropout(queries: Tensor, seen: KeysValues, mask: Tensor | None, dropout: float) -> Tensor:
    # On a CPU the fused kernel with dropout takes 1.5 times as long as this.
    scores = (queries * queries.shape[-1] ** -0.5) @ seen.keys.transpose(-1, -2)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    return drop(scores.softmax(-1), dropout) @ seen.values
