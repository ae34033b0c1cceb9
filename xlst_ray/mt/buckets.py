"""The distinct sentences of a shard folder in buckets by hash; no process ever holds more than a small part of them.

    <folder>/groups/0003.arrow     distinct sentences of some consecutive shards, a record batch for each bucket
    <folder>/groups/0003.parquet   for every row of those shards, which of these sentences it is
    <folder>/buckets/0110.parquet  distinct sentences of one bucket, over all groups
    <folder>/index.json            written last: the buckets are complete

A shuffle in two steps, split by group and gather by bucket: files grow as groups + buckets, not as their product, and
the answers to a group's sentences go back to its rows by position (`xlst_ray.mt.labels`). A bucket is named by the
leading bits of its sentences' SHA-256, so that sets of more buckets and of fewer find each other's sentences.
Every function is idempotent, every file appears whole.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt.protocol import tidy
from xlst_ray.shards.files import read_shard

Ints = npt.NDArray[np.int64]
Read = Callable[[str], pa.ChunkedArray]  # the sentences of a shard, row by row; empty where a row has none

GROUP_ROWS: Final = 2**17  # rows that one process splits at a time: tens of MB
BLOCK_ROWS: Final = 2**18  # rows whose buckets are gathered by one process: each group file is opened once a block
BUCKET_ROWS: Final = 2**14  # rows for each bucket, by default
FEWEST_BUCKETS: Final = 16  # so that a small set, too, can be shared out, and a killed run loses little
MOST_BUCKETS: Final = 4096
EMPTY: Final = -1  # the sentence of a row without a transcript

TEXT: Final = pa.schema([pa.field("text", pa.string(), nullable=False)])


def buckets_for(rows: int) -> int:
    """The number of buckets for so many rows: a power of two."""
    return min(MOST_BUCKETS, max(FEWEST_BUCKETS, _power_of_two(rows // BUCKET_ROWS)))


def transcripts(shard: str) -> pa.ChunkedArray:
    """See `Read`."""
    return read_shard(shard, ["text"])["text"]


def group_shards(urls: Sequence[str], rows: int) -> list[list[str]]:
    """Consecutive shards in groups of about `GROUP_ROWS` rows; `rows` is the number in all of them."""
    size = max(1, GROUP_ROWS * len(urls) // max(rows, 1))
    return [list(urls[start : start + size]) for start in range(0, len(urls), size)]


@dataclass(frozen=True, slots=True)
class SourceTexts:
    """The layout of the sentences of one shard folder.

    Attributes:
        folder: where the files lie.
        rows: of all shards, as their manifest says; how they are shared out is decided by it.
        groups: number of shard groups.
        buckets: number of buckets, a power of two.
    """

    folder: str
    rows: int
    groups: int
    buckets: int

    @property
    def blocks(self) -> int:
        """Ranges of consecutive buckets that one process works on at a time."""
        return min(self.buckets, _power_of_two(self.rows // BLOCK_ROWS))

    def block(self, number: int) -> range:
        """The buckets of a block."""
        size = self.buckets // self.blocks
        return range(number * size, (number + 1) * size)

    def name(self, bucket: int) -> str:
        """The leading bits that a bucket's sentences share; of 16 buckets, the sixth is 0101."""
        bits = self.buckets.bit_length() - 1
        return f"{bucket:0{bits}b}" if bits else ""

    def split(self, group: int, shards: Sequence[str], read: Read = transcripts) -> None:
        """Write the distinct sentences of some shards by bucket, and which of them each row is; `read` gives those of
        a shard, row by row."""
        url = self._group_url(group, ".arrow")
        if storage.exists(url):
            return
        columns = [read(shard) for shard in shards]
        raw = pa.concat_arrays([chunk for column in columns for chunk in column.chunks]).dictionary_encode()
        # Distinct twice: before tidying, which is slow, and after it, which makes two spellings one sentence.
        distinct = pa.array([tidy(text or "") for text in raw.dictionary.to_pylist()], pa.string()).dictionary_encode()
        order, starts, position = self._by_bucket(distinct.dictionary.to_pylist())
        sentences = distinct.dictionary.take(pa.array(order))
        codes = np.append(position[_numbers(distinct.indices)], EMPTY)[_numbers(raw.indices)]
        rows = pa.schema([pa.field("sentence", pa.int32())], {"shards": json.dumps([len(c) for c in columns])})
        storage.write_table(self._group_url(group, ".parquet"), pa.table([codes], schema=rows))
        parts = (sentences[starts[bucket] : starts[bucket + 1]] for bucket in range(self.buckets))
        storage.write_batches(url, TEXT, (pa.record_batch([part], schema=TEXT) for part in parts))

    def _by_bucket(self, texts: Sequence[str]) -> tuple[Ints, Ints, Ints]:
        """(places of the non-empty texts in the order of their buckets, where each bucket starts among them, and for
        each text its own place there)."""
        shift = 64 - (self.buckets.bit_length() - 1)
        of = np.fromiter((_hash(text) >> shift if text else EMPTY for text in texts), np.int64, len(texts))
        empty = int((of == EMPTY).sum())
        order = np.argsort(of, kind="stable")[empty:]
        position = np.full(len(texts), EMPTY)
        position[order] = np.arange(len(order))
        return order, np.searchsorted(of[order], np.arange(self.buckets + 1)), position

    def gather(self, block: int) -> None:
        """Write the distinct sentences of the buckets of a block."""
        todo = [bucket for bucket in self.block(block) if not storage.exists(self._bucket_url(bucket))]
        parts: dict[int, list[pa.Array]] = {bucket: [] for bucket in todo}
        for group in range(self.groups):
            for bucket, batch in zip(todo, self._read(group, todo), strict=True):
                parts[bucket].append(batch["text"])
        for bucket in todo:
            texts = pa.concat_arrays(parts[bucket]).unique()
            storage.write_table(self._bucket_url(bucket), pa.table([texts], schema=TEXT))

    def bucket(self, bucket: int) -> pa.Array:
        """The distinct sentences of a bucket."""
        return storage.read_table(self._bucket_url(bucket))["text"].combine_chunks()

    def group_parts(self, block: int) -> list[pa.Array]:
        """For each group, its sentences of the buckets of a block, in their order within the group."""
        buckets = self.block(block)
        return [
            pa.concat_arrays([batch["text"] for batch in self._read(group, buckets)]) for group in range(self.groups)
        ]

    def rows_of(self, group: int) -> tuple[Ints, list[int]]:
        """For every row of a group its sentence's place in the group (`EMPTY`: no transcript); rows of each shard."""
        table = storage.read_table(self._group_url(group, ".parquet"))
        return _numbers(table["sentence"]), json.loads(table.schema.metadata[b"shards"])

    @property
    def counts(self) -> dict[str, int] | None:
        """`distinct` sentences and their `characters`; none: not complete yet."""
        url = storage.join(self.folder, "index.json")
        return storage.read_json(url) if storage.exists(url) else None

    def complete(self, counts: dict[str, int]) -> None:
        """Note that every bucket is there."""
        storage.write_json(storage.join(self.folder, "index.json"), counts)

    def count(self, block: int) -> dict[str, int]:
        """The counts of the buckets of a block."""
        texts = [self.bucket(bucket) for bucket in self.block(block)]
        characters = sum(pc.sum(pc.utf8_length(part)).as_py() or 0 for part in texts)
        return {"distinct": sum(map(len, texts)), "characters": characters}

    def _read(self, group: int, buckets: Sequence[int]) -> list[pa.RecordBatch]:
        url = self._group_url(group, ".arrow")
        try:
            return storage.read_batches(url, buckets)
        except DataError as error:
            hint = f"delete {self.folder} and run jobs/pseudo_label.py again"
            raise DataError(error.what, where=url, hint=hint) from None

    def _group_url(self, group: int, suffix: str) -> str:
        return storage.join(self.folder, "groups", f"{group:04d}{suffix}")

    def _bucket_url(self, bucket: int) -> str:
        return storage.join(self.folder, "buckets", f"b{self.name(bucket)}.parquet")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _power_of_two(number: int) -> int:
    """The least power of two that is not below a number, at least 1."""
    return 1 << max(number - 1, 0).bit_length()


def _numbers(column: Any) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)
