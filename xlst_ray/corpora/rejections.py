"""Rows that cannot be used: what to do about each reason, and when there are too many of them."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal

from xlst_ray.audio.decode import AudioReason
from xlst_ray.corpora.corpus import IndexReason
from xlst_ray.corpora.tables import read_lines
from xlst_ray.errors import DataError

Reason = IndexReason | AudioReason | Literal["too-short", "text-too-short", "text-too-long", "too-fast"]

_COMMONEST: Final = 3
NEXT_STEP: Final[Mapping[str, str]] = {
    "malformed": "is this the reader of that layout? Else mend the rows",
    "duplicate-id": "are two releases mixed? Ids must be unique within a split",
    "missing": "is the archive of the clips unpacked where the index says?",
    "unreadable": "may you read the files?",
    "empty-file": "fetch these files again: they hold nothing",
    "not-audio": "look into one with `file`: a web page or a pointer of git-lfs in the place of a clip?",
    "unsupported-format": "pip install -e '.[av]' for m4a and webm, or convert them to FLAC",
    "truncated": "fetch these files again: the copy was cut off",
    "segment-past-end": "do the segments belong to these recordings, and are offsets in seconds?",
    "zero-length": "leave these rows out: their clips hold no samples",
    "non-finite": "write the clips again as 16-bit WAV or FLAC",
    "too-long": "raise shards.max_seconds, if such long utterances are meant",
    "too-short": "lower shards.min_seconds, if such short utterances are meant",
    "text-too-short": "is the transcript another column? Else lower shards.min_chars",
    "text-too-long": "raise shards.max_chars, if such long transcripts are meant",
    "too-fast": "do transcripts and clips belong together? Else raise shards.max_chars_per_second",
}


class Rejections:
    """The rejected rows of a corpus so far, by reason, and a file of JSON lines with an example of each."""

    def __init__(self, rows: int, share: float, where: str) -> None:
        """`rows` of the whole corpus, of which a `share` may be rejected; `where` it lies."""
        self._rows, self._share, self._where = rows, share, where
        self._counts: Counter[str] = Counter()
        self._files: dict[str, str] = {}

    def add(self, counts: Mapping[str, int], file: str) -> None:
        """Count rows that a file of JSON lines holds with their reasons.

        Raises:
            DataError: it is certain that more than the share cannot be used; the three commonest reasons are named.
        """
        self._counts.update(counts)
        for reason in counts:
            self._files.setdefault(reason, file)
        bad = self._counts.total()
        if bad > self._share * self._rows:
            reasons = [self._describe(reason, count) for reason, count in self._counts.most_common(_COMMONEST)]
            raise DataError(
                f"{bad:,} of {self._rows:,} rows cannot be used, and maybe more: max_rejected allows {self._share:.0%}",
                where=self._where,
                hint="\n  -> ".join([*reasons, "or raise max_rejected: each row stands in a .rejected.jsonl file"]),
            )

    def _describe(self, reason: str, count: int) -> str:
        example = self._example(reason)
        audio = f" ({example['audio']})" if example.get("audio") else ""
        return f"{count:,} {reason}, such as {example['where']}{audio}: {example['detail']}; {NEXT_STEP[reason]}"

    def _example(self, reason: str) -> dict[str, Any]:
        rows = (json.loads(line) for _, line in read_lines(self._files[reason]))
        return next(row for row in rows if row.get("reason") == reason)
