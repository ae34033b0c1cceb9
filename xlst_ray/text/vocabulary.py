"""Vocabulary: SentencePiece characters or unigram pieces, with fairseq's special tokens, as one small file."""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import sentencepiece

from xlst_ray.config import Section, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.text.ids import BOS, EOS, PAD, SPECIALS, UNK
from xlst_ray.text.speech2text import is_tokenizer, read_tokenizer

FILE_NAME: Final = "vocabulary.model"
_TAG: Final = re.compile(r"<2([\w-]+)>")  # of the language that is written, as MADLAD-400 has them

_NEXT_STEP: Final = "name the folder of a model; jobs/train.py without vocabulary= makes one of its targets"


class VocabularyOptions(Section):
    """What the pieces are and how many."""

    kind: Literal["char", "unigram"] = option("unigram", "Characters, or pieces of a unigram language model.")
    size: int = option(
        1000,
        "Unigram: at most so many pieces, fewer where the text has not so many. Characters: as many as there are.",
        unit="pieces",
        gt=len(SPECIALS),
    )
    coverage: float = option(
        1.0, "Share of the running characters that get a piece; the rest are unknown.", ge=0.98, le=1
    )
    tags: bool = option(
        False,
        "A token for each language that is written, from which the decoder starts, so that one model writes several.",
        added=True,
    )


class Vocabulary:
    """A SentencePiece model: text to ids and back. Its text is already normalised (`xlst_ray.text.normalise`)."""

    def __init__(self, model: bytes, *, where: str | None = None) -> None:
        """From the bytes of a model file.

        Raises:
            DataError: no SentencePiece model, or one with other special tokens than ours.
        """
        self._model = model
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
            pieces = tuple(self._processor.id_to_piece(index) for index in range(len(self._processor)))
        except RuntimeError:
            pieces = ()
        if pieces[: len(SPECIALS)] != SPECIALS:
            raise DataError(
                f"is no vocabulary with {' '.join(SPECIALS)} as its first pieces",
                where=where,
                hint=_NEXT_STEP,
            )
        self.pieces: tuple[str, ...] = pieces
        tags = [(_TAG.fullmatch(piece), index) for index, piece in enumerate(pieces)]
        #: Ids of the tokens that start the decoder, by language; empty: `</s>` does.
        self.tags: dict[str, int] = {
            found[1]: index for found, index in tags if found is not None and self._processor.is_control(index)
        }

    def __len__(self) -> int:
        return len(self.pieces)

    def __reduce__(self) -> tuple[object, ...]:
        # Ray sends a vocabulary to its workers; the processor itself is a handle into C++.
        return (Vocabulary, (self._model,))

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the SHA-256 of the model."""
        return hashlib.sha256(self._model).hexdigest()[:12]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens but for `UNK` where no piece fits."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def target(self, text: str, lang: str) -> list[int]:
        """What is to be written: ids of a text, after the tag of its language where there are tags; none of no text.

        Raises:
            ConfigError: there are tags, but none of this language.
        """
        ids, start = self.encode(text), self.start(lang)
        return ids if start is None or not ids else [start, *ids]

    def start(self, lang: str) -> int | None:
        """The id that starts the decoder for a language; none where there are no tags. Raises as `target`."""
        if self.tags and lang not in self.tags:
            raise ConfigError(
                f"the vocabulary has no tag of {lang}", hint=f"it has those of {', '.join(self.tags)}: make another one"
            )
        return self.tags.get(lang)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens, the unknown one included, are left out."""
        text: str = self._processor.decode([int(index) for index in ids if index not in (BOS, PAD, EOS, UNK)])
        return text

    def to_bytes(self) -> bytes:
        return self._model

    @classmethod
    def from_bytes(cls, model: bytes, *, where: str | None = None) -> "Vocabulary":
        """As the constructor; `where` is named in the error."""
        return cls(model, where=where)

    def save(self, folder: Path) -> None:
        """Write `vocabulary.model` into a local folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_bytes(self._model)

    @classmethod
    def load(cls, folder: Path, *, size: int | None = None) -> "Vocabulary":
        """Read `vocabulary.model`, or a Speech2Text tokenizer, of a local folder.

        Args:
            size: pieces V of the model in the same folder; none: there is no model to fit.

        Raises:
            DataError: neither is there, it is no vocabulary of ours, or that of another model.
        """
        path = folder / FILE_NAME
        if not path.is_file() and is_tokenizer(folder):
            found = cls(read_tokenizer(folder), where=str(folder))
        elif not path.is_file():
            raise DataError("no such file", where=str(path), hint=_NEXT_STEP)
        else:
            found = cls(path.read_bytes(), where=str(path))
        if size is not None and len(found) != size:
            what = f"has {len(found)} pieces where the model beside it has {size}: it is that of another model"
            raise DataError(what, where=str(path), hint="copy the model's folder whole, or train it again")
        return found


def train_vocabulary(
    texts: Iterable[str], options: VocabularyOptions, folder: Path | None = None, languages: Iterable[str] = ()
) -> Vocabulary:
    """The vocabulary of normalised texts, saved into `folder` if there is one; with tags of `languages` if asked for.

    A function of the set of texts alone: they are sorted and each counts once, so neither the order of shards nor a
    prompt that fifty speakers read changes the pieces.

    Raises:
        DataError: no text at all.
        ConfigError: fewer pieces asked for than there are characters.
    """
    distinct = sorted({text for text in texts if text.strip()})
    if not distinct:
        raise DataError(
            "there is no text to make a vocabulary from",
            hint="look at the transcripts: are they all empty, or empty after normalisation?",
        )
    output = io.BytesIO()
    tags = [f"<2{lang}>" for lang in sorted(set(languages))] if options.tags else []
    reserved = len(SPECIALS) + len(tags)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(distinct),
            model_writer=output,
            model_type=options.kind,
            vocab_size=options.size if options.kind == "unigram" else _characters(distinct) + reserved + 1,
            control_symbols=tags,
            character_coverage=options.coverage,
            hard_vocab_limit=False,
            max_sentence_length=2**30,  # SentencePiece leaves out longer lines without a word
            normalization_rule_name="identity",
            num_threads=1,  # more threads add up in another order
            minloglevel=2,
            bos_id=BOS,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
        )
    except RuntimeError as error:
        raise _explain(error, distinct, options) from None
    vocabulary = Vocabulary(output.getvalue())
    if folder is not None:
        vocabulary.save(folder)
    return vocabulary


def _explain(error: RuntimeError, texts: list[str], options: VocabularyOptions) -> ConfigError | DataError:
    if "smaller than required_chars" not in str(error):
        return DataError(f"SentencePiece makes no vocabulary of {len(texts)} sentences ({error})")
    return ConfigError(
        f"{options.size} pieces are too few for a text of {_characters(texts)} different characters",
        where="vocabulary.size",
        hint="raise it well above that, or lower vocabulary.coverage so that rare characters become unknown",
    )


def _characters(texts: list[str]) -> int:
    return len(set().union(*texts))
