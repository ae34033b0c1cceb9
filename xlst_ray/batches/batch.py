"""A batch as arrays: what loaders make, what crosses from process to process, what becomes tensors at the step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xlst_ray.batches.index import Ints
from xlst_ray.text.ids import EOS, PAD


@dataclass(frozen=True)
class Batch:
    """Legend: B utterances, T frames of the longest, F mel bins, U target tokens of the longest, `</s>` included.

    Attributes:
        ids: B utterance ids.
        features: (B, T, F) float16, utterance-normalised, zero behind each utterance's end.
        frames: (B,) true lengths.
        targets: (B, U) token ids, each sentence ended by `</s>`, then `<pad>`.
        target_lengths: (B,) tokens, `</s>` included.
    """

    ids: tuple[str, ...]
    features: npt.NDArray[np.float16]
    frames: Ints
    targets: Ints
    target_lengths: Ints

    def to_row(self) -> dict[str, Any]:
        """As one row of a Ray dataset: a batch is a row."""
        return {
            "ids": list(self.ids),
            "features": self.features.tobytes(),
            "shape": list(self.features.shape),
            "frames": self.frames.tolist(),
            "targets": self.targets.ravel().tolist(),
            "target_lengths": self.target_lengths.tolist(),
        }

    @staticmethod
    def from_row(row: dict[str, Any]) -> "Batch":
        features = np.frombuffer(row["features"], dtype=np.float16).reshape(tuple(row["shape"]))
        targets = np.asarray(row["targets"], dtype=np.int64).reshape(len(row["ids"]), -1)
        frames, lengths = (np.asarray(row[name], dtype=np.int64) for name in ("frames", "target_lengths"))
        return Batch(tuple(row["ids"]), features, frames, targets, lengths)


def collate(ids: list[str], features: list[Tensor], tokens: list[Ints]) -> Batch:
    """Pad utterances (T_i, F), float16, and their targets (U_i,), without `</s>`, to a batch."""
    frames = np.array([len(f) for f in features], dtype=np.int64)
    lengths = np.array([len(t) + 1 for t in tokens], dtype=np.int64)
    targets = np.full((len(tokens), int(lengths.max())), PAD, dtype=np.int64)
    for i, sentence in enumerate(tokens):
        targets[i, : len(sentence)] = sentence
        targets[i, len(sentence)] = EOS
    return Batch(tuple(ids), pad_sequence(features, batch_first=True).numpy(), frames, targets, lengths)
