"""The index of a training set: one row an utterance, with its length in frames and its target tokens.

Built once from the text and duration columns of shards and label files, before any audio is read; the plan of every
epoch is made from it. Columns, not objects: tens of millions of rows are a few gigabytes, tokens being most of it.
Legend: N utterances, S shards, U tokens of one utterance.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.audio.fbank import FRAMES_PER_SECOND, frames_of_seconds
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.files import read_labels, read_shard, shard_urls
from xlst_ray.shards.scores import read_refusals
from xlst_ray.shards.states import STATES_PER_SECOND, read_steps, states_url
from xlst_ray.text.keep import KeepOptions

_COMMONEST: Final = 2
_STATES_LESS: Final = 25  # than the duration asks for, by its rounding and the encoders' edges, where all is heard
_NOT_LEFT_OUT: Final = frozenset({"kept", "seconds", "cut"})
NEXT_STEP: Final[Mapping[str, str]] = {  # by the reason why an utterance is left out
    "empty text": "is the transcript another column, or in a script that text.* leaves out?",
    "too short": "lower batch.min_utterance_frames",
    "too long": "raise batch.max_utterance_frames",
    "longer than is heard": "Whisper hears 30 s, at the slowest of augment.speeds less: cut the recordings",
    "too many tokens": "raise batch.max_utterance_tokens",
    "no label": "why sentences failed stands in the label files: jobs/validate.py shards=... labels=... tells",
    "label refused": "loosen the thresholds of keep, or look at the labels' page",
    "held-out sentence": "all of it is said in the test or development set: train on something else",
    "not drawn": "raise the share",
}

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("tokens", pa.large_list(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)


@dataclass(frozen=True)
class Source:
    """One split of a shard folder and what its utterances are to be turned into.

    Attributes:
        shards: folder of shards.
        split: `train`, `dev` or `test`.
        labels: label folder whose translations are the targets; none: the transcripts are.
        weight: how often it is met, beside other sources of its size.
        keep: thresholds on the labels' scores; none: every label is used.
        share: of the training utterances that are used, drawn by their ids: a smaller share is part of a larger.
        states: folder of a frozen encoder's states, which are read in place of the audio; none: filterbanks of it.
        held_out: file of sentence keys, one a line, that may not be trained on; none: all may.
    """

    shards: str
    split: str
    labels: str | None = None
    weight: float = 1.0
    keep: KeepOptions | None = None
    states: str | None = None
    share: float = 1.0
    held_out: str | None = None


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
class ShardFacts:
    """What the order of an epoch is made of.

    Attributes:
        starts: (S + 1,) first row of each shard in the index, and N.
        frames: (S,) of all its utterances together.
        source: (S,) number of the source that it belongs to.
        weights: of each source.
    """

    starts: Ints
    frames: Ints
    source: Ints
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Index:
    """Where each utterance lies and how long it is; `counts` says what was left out and why.

    Attributes:
        urls: shard files; `shard` points into them.
        ids: N utterance ids.
        shard, row, frames: (N,) arrays; rows stand in the order of their shards. A frame is one of the filterbank, 10
            ms, or a state of a frozen encoder, 20 ms: whatever the model reads.
        tokens: target tokens, without `</s>`, of one utterance after the other.
        ends: (N + 1,) where in `tokens` each utterance begins, and where the last one ends.
        counts: utterances kept (`kept`), left out by reason, `seconds` of audio kept, and of how many of the kept the
            encoder hears the beginning alone (`cut`).
        sources: for each source its weight and the number of its first shard.
        states: the files of states that belong to `urls`; empty: the audio is read.
    """

    urls: tuple[str, ...]
    ids: pa.Array
    shard: Ints32
    row: Ints32
    frames: Ints32
    tokens: Ints32
    ends: Ints
    counts: dict[str, int]
    sources: tuple[tuple[float, int], ...] = ((1.0, 0),)
    states: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def frames_per_second(self) -> float:
        return STATES_PER_SECOND if self.states else FRAMES_PER_SECOND

    def ids_of(self, rows: Ints) -> list[str]:
        """Ids of some rows."""
        names: list[str] = self.ids.take(pa.array(rows)).to_pylist()
        return names

    def tokens_of(self, row: int) -> Ints:
        """Target tokens of an utterance: (U,), without `</s>`."""
        return self.tokens[self.ends[row] : self.ends[row + 1]].astype(np.int64)

    def target_lengths(self, rows: Ints | slice = slice(None)) -> Ints:
        """Target tokens of each utterance, `</s>` included: (N,), or of some rows (B,)."""
        if isinstance(rows, slice):
            return np.diff(self.ends)[rows] + 1
        return self.ends[rows + 1] - self.ends[rows] + 1

    @cached_property
    def facts(self) -> ShardFacts:
        """What the order of an epoch is made of."""
        starts = np.searchsorted(self.shard, np.arange(len(self.urls) + 1)).astype(np.int64)
        total = np.concatenate([[0], np.cumsum(self.frames, dtype=np.int64)])
        source = np.searchsorted([first for _, first in self.sources], np.arange(len(self.urls)), side="right") - 1
        return ShardFacts(starts, np.diff(total[starts]), source, tuple(weight for weight, _ in self.sources))

    def save(self, url: str) -> None:
        tokens = pa.LargeListArray.from_arrays(self.ends, self.tokens).cast(INDEX_SCHEMA.field("tokens").type)
        columns = [self.ids, self.shard, self.row, self.frames, tokens]
        about = {name: json.dumps(getattr(self, name)) for name in ("urls", "counts", "sources", "states")}
        storage.write_table(url, pa.table(columns, schema=INDEX_SCHEMA.with_metadata(about)))

    @staticmethod
    def load(url: str) -> "Index":
        table = storage.read_table(url)
        about = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
        sources = tuple((float(weight), int(first)) for weight, first in about["sources"])
        return _index(table, tuple(about["urls"]), about["counts"], sources, tuple(about["states"]))


def _index(
    table: pa.Table,
    urls: tuple[str, ...],
    counts: dict[str, int],
    sources: tuple[tuple[float, int], ...],
    states: tuple[str, ...],
) -> Index:
    """The index of a table of `INDEX_SCHEMA` that has a row."""
    (batch,) = table.combine_chunks().to_batches()
    ids, shard, row, frames, tokens = batch.columns
    ends = tokens.offsets.to_numpy()
    return Index(
        urls=urls,
        ids=ids,
        shard=shard.to_numpy(),
        row=row.to_numpy(),
        frames=frames.to_numpy(),
        tokens=tokens.values.to_numpy()[ends[0] : ends[-1]],
        ends=ends - ends[0],
        counts=counts,
        sources=sources,
        states=states,
    )


def join(indices: Sequence[Index]) -> Index:
    """One index over several sources, each with its weight; counts are summed.

    Raises:
        DataError: some sources have states and others have not.
    """
    if len({bool(index.states) for index in indices}) > 1:
        raise DataError("some of the training data have states and others have not", hint="encode all, or none, of it")
    first = np.cumsum([0, *(len(index.urls) for index in indices)])
    start = np.cumsum([0, *(len(index.tokens) for index in indices)])
    counts: Counter[str] = Counter()
    for index in indices:
        counts.update(index.counts)
    return Index(
        urls=tuple(url for index in indices for url in index.urls),
        ids=pa.concat_arrays([index.ids for index in indices]),
        shard=np.concatenate([i.shard + base for i, base in zip(indices, first, strict=False)]).astype(np.int32),
        row=np.concatenate([index.row for index in indices]),
        frames=np.concatenate([index.frames for index in indices]),
        tokens=np.concatenate([index.tokens for index in indices]),
        ends=np.concatenate([*(i.ends[:-1] + base for i, base in zip(indices, start, strict=False)), start[-1:]]),
        counts=dict(counts),
        sources=tuple(
            (weight, place + int(base))
            for index, base in zip(indices, first, strict=False)
            for weight, place in index.sources
        ),
        states=tuple(url for index in indices for url in index.states),
    )


def build_index(
    source: Source,
    text: TargetText,
    options: BatchOptions,
    *,
    references: bool = False,
    longest: float | None = None,
) -> Index:
    """The index of a split. From `train` unfit utterances are left out and counted; `dev` and `test` keep every one
    that has a target.

    Args:
        references: targets are not trained on but scored against, so that those that normalise to nothing are kept,
            too: what is heard there is an error.
        longest: seconds of an utterance that a model hears which reads the audio; none: all. States tell it themselves.

    Raises:
        DataError: no shard, a label file out of step with its shard, or no utterance left.
    """
    urls = shard_urls(source.shards, source.split)
    counts: Counter[str] = Counter()
    total_seconds = 0.0
    tables = []
    for shard, url in enumerate(urls):
        kept: list[tuple[str, int, int, int, list[int]]] = []
        for row, one in enumerate(_utterances(url, source, longest)):
            tokens = [] if one.sentence is None else text.encode(text.normalise(one.sentence))
            if source.split == "train":
                reason = _untrainable(one, tokens, source, text, options)
            else:
                reason = one.refused or (None if tokens or references else "empty text")
            counts[reason or "kept"] += 1
            if reason is None:
                total_seconds += one.seconds
                if one.cut:
                    counts["cut"] += 1
                kept.append((one.id, shard, row, one.frames, tokens))
        if kept:  # columns of numbers, shard by shard: lists of numbers would take ten times as much
            tables.append(pa.table([list(column) for column in zip(*kept, strict=True)], schema=INDEX_SCHEMA))
    if not tables:
        raise DataError(
            f"no utterance of the split {source.split} can be used: {show_left_out(counts)}",
            where=source.shards,
            hint="; ".join(NEXT_STEP[reason.partition(":")[0]] for reason, _ in counts.most_common(_COMMONEST)),
        )
    counts["seconds"] = round(total_seconds)
    states = () if source.states is None else tuple(states_url(url, source.states) for url in urls)
    return _index(pa.concat_tables(tables), tuple(urls), dict(counts), ((source.weight, 0),), states)


class _Utterance(NamedTuple):
    """A row of a shard: `refused` says why it has no target sentence, `cut` that its end is not heard."""

    id: str
    seconds: float
    frames: int
    cut: bool
    sentence: str | None
    refused: str | None


def _utterances(url: str, source: Source, longest: float | None) -> Iterator[_Utterance]:
    shard = read_shard(url, ["id", "duration", "text"])
    ids, seconds = shard["id"].to_pylist(), shard["duration"].to_pylist()
    if source.states is None:
        frames = [*map(frames_of_seconds, seconds)]
        cut = [longest is not None and length > longest for length in seconds]
    else:
        frames = read_steps(url, source.states, ids)
        expected = (length * STATES_PER_SECOND - _STATES_LESS for length in seconds)
        cut = [steps < least for steps, least in zip(frames, expected, strict=True)]
    sentences: list[str | None] = shard["text"].to_pylist()
    refused: list[str | None] = [None] * len(ids)
    if source.labels is not None:
        labels = read_labels(url, source.labels, ids)
        pairs = zip(labels["translation"].to_pylist(), labels["status"].to_pylist(), strict=True)
        sentences = [text if status == "ok" else None for text, status in pairs]
        if source.keep is not None:
            scores = read_refusals(url, source.labels, ids, source.keep)
            refused = [None if score is None else f"label refused: {score}" for score in scores]
    refused = ["no label" if text is None else why for text, why in zip(sentences, refused, strict=True)]
    yield from map(_Utterance, ids, seconds, frames, cut, sentences, refused)


def left_out(counts: Mapping[str, int]) -> dict[str, int]:
    """How many utterances of an index were left out, by reason."""
    return {reason: counts[reason] for reason in sorted(counts.keys() - _NOT_LEFT_OUT)}


def show_left_out(counts: Mapping[str, int]) -> str:
    """The same as a message has it."""
    return ", ".join(f"{number} {reason}" for reason, number in left_out(counts).items()) or "none"


def _drawn(name: str, share: float) -> bool:
    """Whether an utterance belongs to a share: the same ones on every machine, a smaller share within a larger."""
    return share == 1.0 or int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) < share * 2**64


def _untrainable(
    one: _Utterance, tokens: list[int], source: Source, text: TargetText, options: BatchOptions
) -> str | None:
    """Why an utterance is not trained on; none: it is."""
    reasons = {
        "empty text": not tokens,
        "too short": one.frames < options.min_utterance_frames,
        "too long": one.frames > options.max_utterance_frames,
        "longer than is heard": one.cut,
        "too many tokens": len(tokens) > options.max_utterance_tokens,
    }
    if reason := one.refused or next((reason for reason, holds in reasons.items() if holds), None):
        return reason
    if one.sentence is not None and text.leaked(one.sentence):
        return "held-out sentence"
    return None if _drawn(one.id, source.share) else "not drawn"
