"""Leakage: sentences of held-out splits that stand in a training text, whatever their case and punctuation.

Parallel corpora say the same sentence in all languages, so a test sentence comes back as a label of the ST data or as a
line of the MT data even where the speech is split well. What is held in memory is the held-out sentences alone.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypedDict

from xlst_ray.config import Section, option
from xlst_ray.errors import LeakageError
from xlst_ray.languages import language
from xlst_ray.text.normalise import TextOptions, normalise

SHORT_WORDS: Final = 2  # "yes", "thank you": any two dialogues share them, so they are counted apart
EXAMPLES_KEPT: Final = 3

_RULE: Final = TextOptions()


class LeakageOptions(Section):
    """What becomes of held-out sentences in training texts."""

    drop: tuple[str, ...] = option((), "Training texts whose overlapping rows are left out; * stands for any name.")
    allow: tuple[str, ...] = option((), "Training texts that may overlap all the same; * stands for any name.")
    min_words: int = option(1, "Shorter sentences are no overlap (characters, where no spaces).", unit="words", ge=1)


def sentence_key(text: str, lang: str) -> str:
    """What two spellings of one sentence share: lower case, no punctuation, one space between words, ß as ss."""
    key = normalise(text, lang, _RULE).casefold()
    return key if language(lang).spaces else key.replace(" ", "")


def sentence_keys(texts: Iterable[str], lang: str, min_words: int = 1) -> frozenset[str]:
    """Keys of held-out sentences of at least `min_words`: a training row whose key is among them has leaked."""
    keys = {sentence_key(text, lang) for text in texts}
    return frozenset(key for key in keys if _words(key, lang) >= min_words)


def is_named(name: str, patterns: Collection[str]) -> bool:
    """Whether `leakage.drop` or `leakage.allow` names a training text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Overlap:
    """What one training text shares with one held-out split.

    Attributes:
        sentences: rows of the training text, empty ones not counted.
        overlapping: those of them that are held-out sentences.
        distinct: different held-out sentences among these.
        short: how many of `overlapping` have one or two words (characters, in languages without spaces).
        examples: up to three as the training text spells them, longest first.
    """

    training: str
    held_out: str
    sentences: int
    overlapping: int
    distinct: int
    short: int
    examples: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the training text's sentences, 0 to 1."""
        return self.overlapping / self.sentences if self.sentences else 0.0


@dataclass(frozen=True)
class LeakageReport:
    """Every training text against every held-out split."""

    overlaps: tuple[Overlap, ...]

    def refuse(self, allow: Collection[str] = ()) -> None:
        """Stop where a training text overlaps and `allow` does not name it (what is dropped is named there, too).

        Raises:
            LeakageError: the text, how much of it, three examples, and the keys that settle it.
        """
        for overlap in self.overlaps:
            if overlap.overlapping and not is_named(overlap.training, allow):
                raise LeakageError(
                    f"{overlap.overlapping} of {overlap.sentences} sentences ({100 * overlap.share:.2f} %) are "
                    f"sentences of {overlap.held_out}, such as {', '.join(map(repr, overlap.examples))}",
                    where=overlap.training,
                    hint=f"leave them out with leakage.drop=[{overlap.training}], "
                    f"or accept them with leakage.allow=[{overlap.training}]",
                )

    def table(self) -> str:
        """The overlaps as aligned plain text, one line a training text and split."""
        head = ("training text", "held out", "sentences", "overlap", "share", "distinct", f"<= {SHORT_WORDS} words")
        rows = [
            (
                o.training,
                o.held_out,
                *map(str, (o.sentences, o.overlapping, f"{100 * o.share:.2f} %", o.distinct, o.short)),
            )
            for o in self.overlaps
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, *rows)
        )


class Matches(TypedDict):
    """A training text against held-out sentences: its `sentences`, empty ones not counted, and by key the `rows` that
    are held out and the first `spelling` of them. As JSON it is small, however large the text."""

    sentences: int
    rows: dict[str, int]
    spelling: dict[str, str]


def match(texts: Iterable[str], keys: Collection[str], lang: str) -> Matches:
    """A training text, read once, against the keys (`sentence_key`) of held-out sentences."""
    sentences = 0
    rows: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for text in texts:
        key = sentence_key(text, lang)
        sentences += key != ""
        if key in keys:
            rows[key] += 1
            spelling.setdefault(key, text)
    return {"sentences": sentences, "rows": dict(rows), "spelling": spelling}


def sum_matches(parts: Iterable[Matches]) -> Matches:
    """The matches of the parts of a text, in any order."""
    sentences, rows, spelling = 0, Counter[str](), dict[str, str]()
    for part in parts:
        sentences += part["sentences"]
        rows.update(part["rows"])
        for key, text in part["spelling"].items():
            spelling[key] = min(text, spelling.get(key, text))
    return {"sentences": sentences, "rows": dict(rows), "spelling": spelling}


def find_overlap(
    held_out: Mapping[str, Iterable[str]],
    training: Mapping[str, Iterable[str]],
    lang: str,
    min_words: int = 1,
) -> LeakageReport:
    """Count the held-out sentences in training texts of the same language; training texts are read once, as streams.

    Args:
        held_out: sentences by split, such as `test` and `dev`.
        training: sentences by the name of the text, such as `labels-mt` or `asr-nl`.
        lang: the language of all of them.
        min_words: shorter sentences (characters, in languages without spaces) are no overlap.
    """
    keys = {split: sentence_keys(texts, lang, min_words) for split, texts in held_out.items()}
    every = frozenset().union(*keys.values())
    return report_matches(keys, {name: match(texts, every, lang) for name, texts in training.items()}, lang)


def report_matches(keys: Mapping[str, frozenset[str]], training: Mapping[str, Matches], lang: str) -> LeakageReport:
    """What `find_overlap` tells, of matches that were found before; `keys` of held-out sentences by split."""
    return LeakageReport(
        tuple(_compare(name, found, split, keys[split], lang) for name, found in training.items() for split in keys)
    )


def _compare(name: str, matches: Matches, split: str, keys: frozenset[str], lang: str) -> Overlap:
    rows = matches["rows"]
    found = sorted((key for key in rows if key in keys), key=lambda key: (-len(key), key))
    return Overlap(
        training=name,
        held_out=split,
        sentences=matches["sentences"],
        overlapping=sum(rows[key] for key in found),
        distinct=len(found),
        short=sum(rows[key] for key in found if _words(key, lang) <= SHORT_WORDS),
        examples=tuple(matches["spelling"][key] for key in found[:EXAMPLES_KEPT]),
    )


def _words(key: str, lang: str) -> int:
    return len(key.split()) if language(lang).spaces else len(key)
