"""What a decoder keeps between the steps of a beam search.

The K hypotheses of an utterance share one cache and stand as K queries of one attention: the encoder's keys are there
once an utterance, and hypotheses that change places move no keys, only a mask of which entries are whose own past.
"""

import torch
from torch import Tensor

from xlst_ray.model.attention import KeysValues

_ROOM = 64  # steps that there is room for at first; it doubles when it is full


class DecoderCache:
    """Keys and values of B utterances with K hypotheses each.

    Attributes:
        encoded: each layer's keys and values of the encoder's states.
        encoded_mask: which of them are no padding, (B, 1, 1, S).
        beams: K.
        steps: tokens of each hypothesis that are kept.
    """

    def __init__(self, encoded: list[KeysValues], encoded_mask: Tensor, beams: int) -> None:
        self.encoded, self.encoded_mask, self.beams = encoded, encoded_mask, beams
        self.steps = 0
        keys = encoded[0].keys
        batch, heads, _, head_dim = keys.shape
        # layer, keys and values, B, heads, steps x K, D / heads
        self._past = keys.new_empty(len(encoded), 2, batch, heads, _ROOM * beams, head_dim)
        # B, hypothesis, steps x K: whether an entry belongs to the hypothesis' own past
        self._own = torch.zeros(batch, beams, 0, dtype=torch.bool, device=keys.device)

    def extend(self) -> Tensor:
        """Makes place for one more token a hypothesis; returns what each hypothesis sees, (B, 1, K, steps x K)."""
        self.steps += 1
        if self.steps * self.beams > self._past.shape[4]:
            self._past = torch.cat([self._past, torch.empty_like(self._past)], dim=4)
        itself = torch.eye(self.beams, dtype=torch.bool, device=self._own.device)
        self._own = torch.cat([self._own, itself.expand(len(self._own), -1, -1)], dim=2)
        return self._own[:, None]

    def past(self, layer: int) -> KeysValues:
        """Views of a layer's self-attention keys and values, the place for the newest tokens last."""
        keys, values = self._past[layer, :, :, :, : self.steps * self.beams]
        return KeysValues(keys, values)

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis k of utterance b goes on from what was hypothesis `parents[b, k]`, (B, K)."""
        self._own = self._own.gather(1, parents[:, :, None].expand(-1, -1, self._own.shape[2]))

    def select(self, utterances: Tensor) -> None:
        """Keeps these utterances only, by their place in the batch."""
        self.encoded = [KeysValues(*(part[utterances] for part in layer)) for layer in self.encoded]
        self.encoded_mask = self.encoded_mask[utterances]
        self._past = self._past[:, :, utterances]
        self._own = self._own[utterances]
