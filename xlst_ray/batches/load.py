"""The plain reader: planned batches from shards to arrays. Ray's loaders and a process without Ray both use it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions, change_speed, generator_for, spec_augment, speed_of
from xlst_ray.audio.decode import AudioError, Wave, decode_flac
from xlst_ray.audio.features import WaveFeatures, normalised
from xlst_ray.batches.batch import Batch, collate
from xlst_ray.batches.index import Index, Ints
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import EpochPlan, Planned, plan_held_out
from xlst_ray.batches.position import Position
from xlst_ray.errors import DataError
from xlst_ray.shards.states import unpack

Key = tuple[int, float]  # a row of the index, and its speed


class BatchLoader:
    """Loads batches of an index: FLAC -> speed -> filterbank -> utterance CMVN -> SpecAugment -> padded float16.

    Where the index has a frozen encoder's states, they take the place of the filterbank.

    Args:
        index: where the utterances lie.
        options: `cache_mb` bounds the features kept in memory, un-augmented, for later epochs.
        augment: speeds and SpecAugment for training; none for held-out sets.
        seed: with the epoch and the utterance id it decides speeds and masks.
        frontend: as of `WaveFeatures`.
        threads: that make features; they are the same for any number.
    """

    def __init__(
        self,
        index: Index,
        options: BatchOptions,
        *,
        augment: AugmentOptions | None,
        seed: int,
        frontend: Callable[[Wave], Tensor] | None = None,
        threads: int = 1,
    ) -> None:
        self._features_of = WaveFeatures(frontend)
        # Each utterance by one thread of torch's: with more of them its last bits are others.
        self._pool = ThreadPoolExecutor(threads, "features", torch.set_num_threads, (1,))
        self.index, self.options, self.augment, self.seed = index, options, augment, seed
        self._cache: dict[Key, Tensor] = {}
        self._cache_room = options.cache_mb * 2**20
        self._plan: tuple[tuple[int, int], EpochPlan] | None = None

    def plan(self, epoch: int, lanes: int) -> EpochPlan:
        """The plan of an epoch; the last one is kept."""
        if self._plan is None or self._plan[0] != (epoch, lanes):
            plan = EpochPlan(self.index, self.options, seed=self.seed, epoch=epoch, lanes=lanes, augment=self.augment)
            self._plan = (epoch, lanes), plan
        return self._plan[1]

    def window_batches(self, start: Position, *, ranks: Sequence[int], world: int) -> Iterator[tuple[Batch, Position]]:
        """The batches of some of `world` ranks, step after step, from a position in a window to its end.

        Each comes with the position after its step.

        The recordings of all of them are in memory together, each read once.
        """
        plan = self.plan(start.epoch, world)
        planned = plan.window(start.window)
        mine = [(at + world, planned[at + rank]) for at in range(start.batch, len(planned), world) for rank in ranks]
        audio = self._read_audio({row for _, batch in mine for row in batch.rows.tolist() if not self._known(row)})
        for done, batch in mine:
            after = start._replace(batch=done) if done < len(planned) else next_window(start, plan.windows)
            yield self.load(batch, audio), after

    def held_out_batches(self, *, ranks: Sequence[int], world: int) -> Iterator[Batch]:
        """The part of some of `world` ranks in every utterance once."""
        batches = plan_held_out(self.index, self.options)
        for rank in ranks:
            yield from (self.load(Planned.once(rows)) for rows in batches[rank::world])

    def load(self, batch: Planned, audio: Mapping[int, bytes] | None = None) -> Batch:
        """A planned batch; `audio` by row of the index where it was read already."""
        ids = self.index.ids_of(batch.rows)
        rows, passes = batch.rows.tolist(), batch.passes.tolist()
        speeds = [
            1.0 if self.augment is None else speed_of(self.augment, self.seed, turn, name)
            for turn, name in zip(passes, ids, strict=True)
        ]
        features = self._features(list(zip(rows, speeds, strict=True)), audio)
        if self.augment is not None:
            features = [
                spec_augment(values, self.augment, generator_for(self.seed, turn, name))
                for values, turn, name in zip(features, passes, ids, strict=True)
            ]
        return collate(ids, features, [self.index.tokens_of(row) for row in rows])

    def _known(self, row: int) -> bool:
        """Whether the features of a row are kept at every speed that it may have."""
        speeds = (1.0,) if self.augment is None else self.augment.speeds
        return all((row, speed) in self._cache for speed in speeds)

    def _features(self, keys: Sequence[Key], audio: Mapping[int, bytes] | None) -> list[Tensor]:
        missing = list(dict.fromkeys(key for key in keys if key not in self._cache))
        stored = self._read_audio({row for row, _ in missing}) if audio is None else audio
        made = self._pool.map(lambda key: self._compute(key[0], stored[key[0]], key[1]), missing)
        computed = dict(zip(missing, made, strict=True))
        for key, features in computed.items():
            # Epochs scan all utterances in turn, and a scan defeats eviction: what came first simply stays.
            if features.nbytes <= self._cache_room:
                self._cache[key] = features
                self._cache_room -= features.nbytes
        return [computed[key] if key in computed else self._cache[key] for key in keys]

    @torch.inference_mode()
    def _compute(self, row: int, stored: bytes, speed: float) -> Tensor:
        if self.index.states:
            return normalised(torch.from_numpy(unpack(stored, int(self.index.frames[row])).astype(np.float32)))
        return self._features_of(change_speed(self._decode(row, stored), speed))

    def _decode(self, row: int, stored: bytes) -> Wave:
        try:
            return decode_flac(stored)
        except AudioError as error:
            place = f"{self.index.urls[self.index.shard[row]]}, row {int(self.index.row[row]) + 1}"
            hint = "the shard is damaged: jobs/validate.py finds all such rows; delete its folder and prepare it again"
            raise DataError(error.what, where=place, hint=hint) from None

    def _read_audio(self, rows: Iterable[int]) -> dict[int, bytes]:
        """FLAC, or states, by row of the index; each file is opened once, and only the row groups that are needed."""
        by_shard: dict[int, list[int]] = defaultdict(list)
        for row in sorted(rows):
            by_shard[int(self.index.shard[row])].append(row)
        found: dict[int, bytes] = {}
        for shard, members in by_shard.items():
            urls, column = (self.index.states, "states") if self.index.states else (self.index.urls, "audio")
            with storage.open_parquet(urls[shard]) as file:
                audio = _read_rows(file, column, self.index.row[members].astype(np.int64))
            found.update(zip(members, audio, strict=True))
        return found


def next_window(at: Position, windows: int) -> Position:
    """The start of the window after that of a position, in an epoch of so many."""
    return Position(at.epoch, window=at.window + 1) if at.window + 1 < windows else Position(at.epoch + 1)


def _read_rows(file: pq.ParquetFile, column: str, rows: Ints) -> list[bytes]:
    """A column at some rows, whatever the file's row groups are."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    group_of_row = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.unique(group_of_row[rows])
    present = np.flatnonzero(np.isin(group_of_row, groups))
    values = file.read_row_groups(groups.tolist(), columns=[column])[column]
    return list(values.take(np.searchsorted(present, rows)).to_pylist())
