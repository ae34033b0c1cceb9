"""The plain reader: planned batches from shards to arrays. Ray's loaders and a process without Ray both use it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

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
from xlst_ray.shards.schema import ROW_GROUP_ROWS


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
        waves = [torch.from_numpy(decode_flac(audio[row])) for row in rows]
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        with torch.inference_mode():
            features, frames = self._fbank(padded, lengths)
            features = utterance_cmvn(features, frames)
        return [f[:n].half() for f, n in zip(features, frames.tolist(), strict=True)]

    def _read_audio(self, rows: Sequence[int]) -> dict[int, bytes]:
        """FLAC by row of the index; each shard is opened once, and only the row groups that are needed are read."""
        by_shard: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            by_shard[int(self.index.shard[row])].append(row)
        found: dict[int, bytes] = {}
        for shard, members in by_shard.items():
            groups = sorted({int(self.index.row[row]) // ROW_GROUP_ROWS for row in members})
            with storage.open_parquet(self.index.urls[shard]) as file:
                column = file.read_row_groups(groups, columns=["audio"])["audio"]
            for row in members:
                group, offset = divmod(int(self.index.row[row]), ROW_GROUP_ROWS)
                found[row] = column[groups.index(group) * ROW_GROUP_ROWS + offset].as_py()
        return found
