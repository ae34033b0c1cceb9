"""Word and character errors, utterance by utterance, as jiwer aligns them.

Texts come normalised alike, references and hypotheses. In languages that write spaces between words, words are what
spaces part, and the space is a character like another. In those that do not (`Language.spaces`), WER is counted on
characters, too, and spaces count in neither figure. An utterance without reference has insertions only: it adds errors
and no length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiwer

from xlst_ray.errors import DataError
from xlst_ray.languages import language

ChunkKind = Literal["equal", "substitute", "insert", "delete"]


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one utterance or of many, in words or in characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )


@dataclass(frozen=True)
class Chunk:
    """A stretch of an alignment: its units of reference and hypothesis, one of them empty where one side has none."""

    kind: ChunkKind
    reference: str
    hypothesis: str


def word_errors(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> list[ErrorCounts]:
    """Word errors of each utterance; on characters in languages without spaces.

    Raises:
        ValueError: not as many hypotheses as references.
    """
    return _count(*_word_output(references, hypotheses, lang))


def char_errors(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> list[ErrorCounts]:
    """Character errors of each utterance, spaces included where they part words. Raises as `word_errors`."""
    if not language(lang).spaces:
        return word_errors(references, hypotheses, lang)
    _check_lengths(references, hypotheses)
    output = jiwer.process_characters(list(references), list(hypotheses))
    return _count(output.alignments, output.references)


def rate(counts: Iterable[ErrorCounts]) -> float:
    """Errors in percent of the reference's length, over all utterances: WER or CER.

    Raises:
        DataError: all references are empty, so there is no such figure.
    """
    total = sum(counts, ErrorCounts())
    if total.reference == 0:
        raise DataError("no reference has any text to count errors against", hint="look at the test transcripts")
    return 100 * total.errors / total.reference


def align(reference: str, hypothesis: str, lang: str) -> list[Chunk]:
    """One utterance's alignment, in the units of `word_errors`."""
    alignments, references, hypotheses = _words([reference], [hypothesis], lang)
    gap = " " if language(lang).spaces else ""
    return [
        Chunk(
            chunk.type,
            gap.join(references[0][chunk.ref_start_idx : chunk.ref_end_idx]),
            gap.join(hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in alignments[0]
    ]


def _word_output(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> tuple[Any, Any]:
    alignments, units, _ = _words(references, hypotheses, lang)
    return alignments, units


def _words(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> tuple[Any, Any, Any]:
    """Alignments, and the units of references and hypotheses."""
    _check_lengths(references, hypotheses)
    if language(lang).spaces:
        output = jiwer.process_words(list(references), list(hypotheses))
    else:
        output = jiwer.process_characters(
            *(["".join(text.split()) for text in side] for side in (references, hypotheses))
        )
    return output.alignments, output.references, output.hypotheses


def _check_lengths(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")


def _count(alignments: Any, references: Any) -> list[ErrorCounts]:
    return [_count_one(chunks, len(units)) for chunks, units in zip(alignments, references, strict=True)]


def _count_one(chunks: Any, reference: int) -> ErrorCounts:
    totals = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in chunks:
        totals[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return ErrorCounts(totals["substitute"], totals["delete"], totals["insert"], reference)
