"""The plain reader: planned batches from shards to arrays. Ray's loaders and a process without Ray both use it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xlst_ray import storage
from xlst_ray.audio.augment import SpecAugmentOptions, generator_for, spec_augment
from xlst_ray.audio.decode import decode_flac
from xlst_ray.audio.fbank import Fbank, utterance_cmvn
from xlst_ray.batches.batch import Batch, collate
from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import plan_epoch, plan_held_out


class BatchLoader:
    """Loads batches of an index: FLAC -> filterbank -> utterance CMVN -> SpecAugment -> padded float16.

    Args:
        index: where the utterances lie.
        options: `cache_mb` bounds the features kept in memory, un-augmented, for later epochs.
        augment: SpecAugment for training; none for held-out sets.
        seed: with the epoch and the utterance id it decides the masks.
    """

    def __init__(self, index: Index, options: BatchOptions, *, augment: SpecAugmentOptions | None, seed: int) -> None:
        self.index, self.options, self.augment, self.seed = index, options, augment, seed
        self._fbank = Fbank()
        self._cache: dict[int, Tensor] = {}
        self._cache_room = options.cache_mb * 2**20
        self._planned: tuple[int, int] | None = None

    def train_batches(self, epoch: int, first: int, *, rank: int, world: int) -> Iterator[Batch]:
        """A rank's batches of an epoch from the `first` on."""
        if self._planned != (epoch, world):
            self._plan = plan_epoch(self.index, self.options, seed=self.seed, epoch=epoch, world=world)
            self._planned = (epoch, world)
        for rows in self._plan.of_rank(rank)[first:]:
            yield self.load(rows, epoch)

    def held_out_batches(self, *, rank: int, world: int) -> Iterator[Batch]:
        """A rank's part of every utterance once."""
        for rows in plan_held_out(self.index, self.options)[rank::world]:
            yield self.load(rows, epoch=0)

    def load(self, rows: Ints, epoch: int) -> Batch:
        """The batch of some rows of the index."""
        features = self._features(rows)
        ids = [self.index.ids[row] for row in rows]
        if self.augment is not None:
            features = [
                spec_augment(values, self.augment, generator_for(self.seed, epoch, name))
                for values, name in zip(features, ids, strict=True)
            ]
        return collate(ids, features, [self.index.tokens[row] for row in rows])

    def _features(self, rows: Ints) -> list[Tensor]:
        missing = [int(row) for row in rows if int(row) not in self._cache]
        computed = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        for row, features in computed.items():
            # Epochs scan all utterances in turn, and a scan defeats eviction: what came first simply stays.
            if features.nbytes <= self._cache_room:
                self._cache[row] = features
                self._cache_room -= features.nbytes
        return [computed[int(row)] if int(row) in computed else self._cache[int(row)] for row in rows]

    def _compute(self, rows: Sequence[int]) -> list[Tensor]:
        audio = self._read_audio(rows)
        return [self._compute_one(audio[row]) for row in rows]

    @torch.inference_mode()
    def _compute_one(self, flac: bytes) -> Tensor:
        # Alone, not as a batch: sums over padding differ in the last bit, and a resumed run would not be the same.
        wave = torch.from_numpy(decode_flac(flac))[None]
        features, frames = self._fbank(wave, torch.tensor([wave.shape[1]]))
        return utterance_cmvn(features, frames)[0].half()

    def _read_audio(self, rows: Sequence[int]) -> dict[int, bytes]:
        """FLAC by row of the index; each shard is opened once, and only the row groups that are needed are read."""
        by_shard: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            by_shard[int(self.index.shard[row])].append(row)
        found: dict[int, bytes] = {}
        for shard, members in by_shard.items():
            with storage.open_parquet(self.index.urls[shard]) as file:
                audio = _read_rows(file, "audio", self.index.row[members])
            found.update(zip(members, audio, strict=True))
        return found


def _read_rows(file: pq.ParquetFile, column: str, rows: Ints) -> list[bytes]:
    """A column at some rows, whatever the file's row groups are."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    group_of_row = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.unique(group_of_row[rows])
    present = np.flatnonzero(np.isin(group_of_row, groups))
    values = file.read_row_groups(groups.tolist(), columns=[column])[column]
    return list(values.take(np.searchsorted(present, rows)).to_pylist())
