"""The index of a training set: one row an utterance, with its length in frames and its target tokens.

Built once from the text and duration columns of shards and label files, before any audio is read; the plan of every
epoch is made from it. Legend: N utterances, U tokens of one utterance.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.fbank import frames_of_seconds
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.files import read_labels, read_shard, shard_urls

Ints = npt.NDArray[np.int64]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Source:
    """One split of a shard folder and what its utterances are to be turned into.

    Attributes:
        shards: folder of shards.
        split: `train`, `dev` or `test`.
        labels: label folder whose translations are the targets; none: the transcripts are.
    """

    shards: str
    split: str
    labels: str | None = None


@dataclass(frozen=True)
class TargetText:
    """How a target sentence becomes tokens, and which sentences may not be trained on.

    Attributes:
        normalise: the sentence as the corpus or the engine has it -> as it is scored.
        encode: normalised sentence -> token ids without `</s>`.
        leaked: whether a sentence stands in a held-out set.
    """

    normalise: Callable[[str], str]
    encode: Callable[[str], list[int]]
    leaked: Callable[[str], bool] = lambda _: False


@dataclass(frozen=True)
class Index:
    """Where each utterance lies and how long it is; `counts` says what was left out and why.

    Attributes:
        urls: shard files; `shard` points into them.
        ids: N utterance ids.
        shard, row, frames: (N,) arrays.
        tokens: N arrays of target tokens (U,), without `</s>`.
        counts: utterances kept (`kept`), left out by reason, and `seconds` of audio kept.
    """

    urls: tuple[str, ...]
    ids: tuple[str, ...]
    shard: Ints
    row: Ints
    frames: Ints
    tokens: tuple[Ints, ...]
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def target_lengths(self) -> Ints:
        """Target tokens of each utterance, `</s>` included: (N,)."""
        return np.array([len(tokens) + 1 for tokens in self.tokens], dtype=np.int64)

    def save(self, url: str) -> None:
        tokens = [sentence.tolist() for sentence in self.tokens]
        columns = [pa.array(self.ids, pa.string()), self.shard, self.row, self.frames, tokens]
        about = {"urls": json.dumps(self.urls), "counts": json.dumps(self.counts)}
        storage.write_table(url, pa.table(columns, schema=INDEX_SCHEMA.with_metadata(about)))

    @staticmethod
    def load(url: str) -> "Index":
        table = storage.read_table(url)
        about = table.schema.metadata
        shard, row, frames = (table[name].to_numpy().astype(np.int64) for name in ("shard", "row", "frames"))
        tokens = tuple(np.asarray(t, dtype=np.int64) for t in table["tokens"].to_pylist())
        urls, counts = json.loads(about[b"urls"]), json.loads(about[b"counts"])
        return Index(tuple(urls), tuple(table["id"].to_pylist()), shard, row, frames, tokens, counts)


def build_index(source: Source, text: TargetText, options: BatchOptions) -> Index:
    """The index of a split. From `train` unfit utterances are left out and counted; `dev` and `test` keep every one
    that has a target.

    Raises:
        DataError: no shard, a label file out of step with its shard, or no utterance left.
    """
    urls = shard_urls(source.shards, source.split)
    counts: Counter[str] = Counter()
    total_seconds = 0.0
    kept: list[tuple[str, int, int, int, list[int]]] = []
    for shard, url in enumerate(urls):
        for row, (name, seconds, sentence) in enumerate(_targets(url, source.labels)):
            frames = frames_of_seconds(seconds)
            tokens = [] if sentence is None else text.encode(text.normalise(sentence))
            reason = _unfit(frames, len(tokens), options) if source.split == "train" else _untargeted(tokens)
            if sentence is None:
                reason = "no label"
            elif reason is None and source.split == "train" and text.leaked(sentence):
                reason = "held-out sentence"
            counts[reason or "kept"] += 1
            if reason is None:
                total_seconds += seconds
                kept.append((name, shard, row, frames, tokens))
    if not kept:
        raise DataError(f"no utterance of the split {source.split} can be used: {dict(counts)}", where=source.shards)
    counts["seconds"] = round(total_seconds)
    ids, shards, rows, lengths, sentences = zip(*kept, strict=True)
    shard_of, row_of, frames_of = (np.array(column, dtype=np.int64) for column in (shards, rows, lengths))
    tokens_of = tuple(np.array(sentence, dtype=np.int64) for sentence in sentences)
    return Index(tuple(urls), ids, shard_of, row_of, frames_of, tokens_of, dict(counts))


def _targets(url: str, labels_folder: str | None) -> Iterator[tuple[str, float, str | None]]:
    """(id, seconds, target sentence or none) of every row of a shard, in its order."""
    shard = read_shard(url, ["id", "duration", "text"])
    ids = shard["id"].to_pylist()
    sentences = shard["text"].to_pylist()
    if labels_folder is not None:
        labels = read_labels(url, labels_folder, ids)
        pairs = zip(labels["translation"].to_pylist(), labels["status"].to_pylist(), strict=True)
        sentences = [text if status == "ok" else None for text, status in pairs]
    yield from zip(ids, shard["duration"].to_pylist(), sentences, strict=True)


def _untargeted(tokens: list[int]) -> str | None:
    return None if tokens else "empty text"


def _unfit(frames: int, tokens: int, options: BatchOptions) -> str | None:
    if not tokens:
        return "empty text"
    if frames < options.min_utterance_frames:
        return "too short"
    if frames > options.max_utterance_frames:
        return "too long"
    if tokens > options.max_utterance_tokens:
        return "too many tokens"
    return None
