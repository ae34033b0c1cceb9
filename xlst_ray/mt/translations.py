"""Translations that lie ready: of one engine, from one language into another, found by the sentence.

A folder of immutable files, `<bits>-<digest>.parquet`: sentences whose SHA-256 begins with these bits, and their
translations. The digest is that of the content, so runs at the same time need no lock, and what is finished is never
written again. Another run, over other shards and with another number of buckets, finds each sentence by its bits.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xlst_ray import storage
from xlst_ray.errors import TranslationError
from xlst_ray.mt.protocol import Translation
from xlst_ray.shards.schema import LABEL_SCHEMA

SCHEMA: Final = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),
        *list(LABEL_SCHEMA)[1:],
        pa.field("attempt", pa.int32(), nullable=False),  # 0: when first met; n: at the n-th try of what had failed
        pa.field("input_tokens", pa.int32(), nullable=False),  # 0 where the engine counts none
        pa.field("output_tokens", pa.int32(), nullable=False),
    ]
)
RUN: Final = b"run"  # key of the file's metadata: which label set had it translated, and pays for it


@dataclass(frozen=True, slots=True)
class Translations:
    """The translations of one engine and pair of languages, in `folder`."""

    folder: str

    def read(self, bits: str) -> pa.Table:
        """All known translations of sentences with these leading bits, each sentence once, by `SCHEMA`; a file of a
        coarser set brings others, too. Where runs have both translated a sentence: a success before a failure, then
        the later attempt, then the digest."""
        tables = [storage.read_table(url) for url in self._files(bits)]
        if len(tables) < 2:
            return tables[0] if tables else SCHEMA.empty_table()
        table = pa.concat_tables([part.replace_schema_metadata() for part in tables]).combine_chunks()
        failed = pc.not_equal(table["status"], "ok")
        best = pc.sort_indices(
            pa.table({"failed": failed, "attempt": table["attempt"], "place": np.arange(len(table))}),
            [("failed", "ascending"), ("attempt", "descending"), ("place", "ascending")],
        )
        codes = table["text"].take(best).combine_chunks().dictionary_encode().indices
        first = np.sort(np.unique(codes.to_numpy(), return_index=True)[1])
        return table.take(best.take(pa.array(first)))

    def pending(self, texts: pa.Array, bits: str, attempt: int = 0) -> pa.Array:
        """The sentences of a bucket to translate: those unknown, and those that failed before this attempt."""
        known = self.read(bits)
        failed = pc.and_(pc.equal(known["status"], "error"), pc.less(known["attempt"], attempt))
        settled = known["text"].filter(pc.invert(failed)).combine_chunks()
        return texts.filter(pc.invert(pc.is_in(texts, value_set=settled)))

    def add(self, bits: str, texts: pa.Array, results: Sequence[Translation], *, attempt: int, run: str) -> None:
        """Keep the results of sentences with these leading bits: all of them in one file, or none.

        Raises:
            TranslationError: the engine broke its contract of one result a sentence.
        """
        if len(results) != len(texts):
            raise TranslationError(
                f"the engine gave {len(results)} results for {len(texts)} sentences", where=f"bucket {bits}"
            )
        columns = {
            "text": texts,
            "translation": [result.text for result in results],
            "status": [result.status for result in results],
            "error": [result.error for result in results],
            "attempt": np.full(len(texts), attempt),
            "input_tokens": [result.input_tokens for result in results],
            "output_tokens": [result.output_tokens for result in results],
        }
        table = pa.table(columns, schema=SCHEMA.with_metadata({RUN: run.encode()}))
        data = storage.table_bytes(table)
        digest = hashlib.sha256(data).hexdigest()[:16]
        storage.write_bytes(storage.join(self.folder, f"{bits}-{digest}.parquet"), data)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write `engine.json`, for who looks into the folder, and to see that translations can be kept before one is
        paid for. Raises `DataError` where they cannot."""
        storage.write_json(storage.join(self.folder, "engine.json"), about)

    def tokens_of(self, bits: str, run: str) -> tuple[int, int]:
        """(input, output) tokens that a label set paid for in this bucket; a file of a coarser set counts in the first
        of its buckets."""
        spent = [0, 0]
        for url in self._files(bits):
            if _bits(url).ljust(len(bits), "0").startswith(bits):
                table = storage.read_table(url, ["input_tokens", "output_tokens"])
                if table.schema.metadata[RUN] == run.encode():
                    spent = [
                        total + (pc.sum(side).as_py() or 0) for total, side in zip(spent, table.columns, strict=True)
                    ]
        return spent[0], spent[1]

    def _files(self, bits: str) -> list[str]:
        urls = storage.list_files(self.folder, ".parquet")
        return [url for url in urls if bits.startswith(_bits(url)) or _bits(url).startswith(bits)]


def _bits(url: str) -> str:
    return url.rpartition("/")[2].partition("-")[0]
