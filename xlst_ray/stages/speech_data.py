"""What a speech model learns from: sources with labels and states, the language of their targets, a vocabulary."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Self

import numpy as np
from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.batches.index import Index, Source
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.shards.files import iter_texts, shard_urls
from xlst_ray.shards.quality import FOLDER as QUALITY
from xlst_ray.shards.scores import FOLDER as SCORES
from xlst_ray.shards.scores import iter_translations, refuse_without_quality
from xlst_ray.stages.stage import MANIFEST, fingerprint, finished
from xlst_ray.stages.states import about_states
from xlst_ray.stages.text import VOCABULARY_FILE, make_vocabulary, read_held_out, without_held_out
from xlst_ray.text.ids import UNK
from xlst_ray.text.keep import KeepOptions
from xlst_ray.text.normalise import TextOptions, normalise
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions

_SAMPLED: Final = 10_000  # texts of a source that are looked at for characters
_NAMED: Final = 10  # characters, in a message


class SourceOptions(Section):
    """Further training data."""

    shards: Url = option(..., "folder or URL of the shards; their split train is read")
    labels: Url | None = option(None, "folder or URL of labels: the targets are translations; none: transcripts")
    weight: float = option(1.0, "how often it is met, beside other sources of its size", gt=0)
    states: Url | None = option(None, "folder or URL of its states, where states are what is read")
    keep: KeepOptions | None = option(None, "thresholds on the scores of labels; none: all are used")
    share: float = option(1.0, "of its utterances that are trained on, drawn by their ids", gt=0, le=1)
    held_out: Url | None = option(
        None, "file of keys of sentences that are not trained on; not given: held_out of the job; null: none"
    )

    @model_validator(mode="after")
    def _with_effect(self) -> Self:
        if self.keep is not None and self.labels is None:
            raise ValueError("keep is for the scores of labels, and none are named: set labels, or leave out keep")
        return self


@dataclass(frozen=True)
class SpeechData:
    """What a speech model learns from.

    Attributes:
        train, dev: shards, and labels where the targets are translations.
        lang: language of the targets.
        further: more to train on, by name, each with the language of its targets.
        vocabulary: folder with `vocabulary.model`, or with a Speech2Text tokenizer.
        init: model folder to start from, ours or a Speech2Text checkpoint; none: random weights.
    """

    train: Source
    dev: Source
    lang: str
    vocabulary: str
    init: str | None = None
    further: Mapping[str, tuple[Source, str]] = field(default_factory=dict)


def thresholds(labels: str | None, scores: bool, keep: KeepOptions) -> KeepOptions | None:
    """Those that labels are held against; none: all labels are used.

    Raises:
        ConfigError: they would have no effect.
    """
    if scores and labels is None:
        raise ConfigError("are those of labels, and none are named", where="scores", hint="set labels, or leave it out")
    if keep != KeepOptions() and not scores:
        raise ConfigError("has no effect without scores", where="keep", hint="set scores=true, or leave it out")
    return keep if scores else None


def speech_data(
    text: TextOptions,
    pieces: VocabularyOptions,
    *,
    shards: str,
    labels: str | None,
    init: str | None,
    vocabulary: str | None,
    held_out: str | None,
    out: str,
    further: Mapping[str, SourceOptions] | None = None,
    keep: KeepOptions | None = None,
    states: str | None = None,
) -> SpeechData:
    """What the train and dev splits of a shard folder, and the train splits of further ones, teach.

    A vocabulary that is not given is made beside `out`. With `keep`, labels that its thresholds refuse are left out; no
    sentence of the file `held_out` is trained on.

    Raises:
        DataError: a folder is not that of a finished stage.
        ConfigError: there is a vocabulary, and something is said of how one is made.
    """
    if vocabulary is not None and pieces != VocabularyOptions():
        what = "says how a vocabulary is made, and vocabulary= names one that is there"
        raise ConfigError(what, where="pieces", hint="leave one of them out")
    train = Source(shards, "train", labels, keep=keep, states=states, held_out=held_out)
    dev = Source(shards, "dev", labels, keep=keep, states=states)
    lang = target_language(train)
    sources = {
        name: Source(more.shards, "train", more.labels, more.weight, more.keep, more.states, more.share, file)
        for name, more in sorted((further or {}).items())
        for file in [more.held_out if "held_out" in more.model_fields_set else held_out]
    }
    more = {name: (source, target_language(source)) for name, source in sources.items()}
    if vocabulary is None:
        # Beside the stage and named by what it is made of: a call that is then refused leaves no trace in the stage.
        made_of = [*map(_read_of, [train, *sources.values()]), text.resolved(), pieces.identity()]
        vocabulary = f"{out}-vocabulary-{fingerprint(made_of)}"
        if not storage.exists(storage.join(vocabulary, VOCABULARY_FILE)):
            texts = [(target, _texts(source, target)) for source, target in [(train, lang), *more.values()]]
            make_vocabulary(texts, text, pieces, vocabulary)
    return SpeechData(train, dev, lang, vocabulary, init, more)


def _read_of(source: Source) -> dict[str, Any]:
    """The content of the texts of a source, as far as a vocabulary sees them."""
    found: dict[str, Any] = {"shards": finished(source.shards, "corpus").fingerprint}
    if source.labels is not None:
        found["labels"] = labels_fingerprint(source.labels, source.shards)
    if source.labels is not None and source.keep is not None:
        found |= {"keep": source.keep.identity(), **scores_fingerprints(source.labels, source.keep)}
    if source.held_out is not None:
        found["held-out"] = content(source.held_out)
    return found


def labels_fingerprint(folder: str, shards: str) -> str:
    """Of what labels are and of their content, which another attempt at what had failed has changed.

    Raises:
        DataError: they were made for other shards than these, whose ids may well be the same.
    """
    labels = finished(folder, "target")
    made_for = storage.read_json(storage.join(folder, MANIFEST)).get("inputs", {}).get("shards")
    if made_for not in (None, finished(shards, "corpus").fingerprint):
        hint = (
            "name the shards that they were made for, or make labels for these: jobs/pseudo_label.py with another out"
        )
        raise DataError(f"these labels were made for other shards than {shards}", where=folder, hint=hint)
    return fingerprint([labels.fingerprint, labels.counts.get("content")])


def scores_fingerprints(labels: str, keep: KeepOptions) -> dict[str, str]:
    """Of the scores that thresholds are on."""
    found = {"scores": finished(storage.join(labels, SCORES), "filters").fingerprint}
    if keep.quality is not None:
        refuse_without_quality(labels, keep)
        found["quality"] = finished(storage.join(labels, QUALITY), "content").fingerprint
    return found


def content(url: str) -> str:
    """Of a small file: 12 hexadecimal digits."""
    return hashlib.sha256(storage.read_bytes(url)).hexdigest()[:12]


def target_language(source: Source) -> str:
    """The language of what a source says, or of its labels."""
    if source.labels is None:
        return str(finished(source.shards, "corpus").config["corpus"]["lang"])
    return str(finished(source.labels, "target").config["target"])


def _texts(source: Source, lang: str) -> Iterator[str]:
    texts = (
        iter_texts(source.shards, "train")
        if source.labels is None
        else iter_translations(shard_urls(source.shards, "train"), source.labels, source.keep)
    )
    return texts if source.held_out is None else without_held_out(texts, read_held_out(source.held_out), lang)


def refuse_unknown(
    title: str, index: Index, most: float, data: SpeechData, text: TextOptions, vocabulary: Vocabulary
) -> None:
    """Raises `DataError` where more than `most` of the target tokens are unknown to the vocabulary."""
    share = float(np.mean(index.tokens == UNK))
    if share <= most:
        return
    missing = " ".join(_missing_characters(data, text, vocabulary)) or "rare characters"
    raise DataError(
        f"{title}: {share:.1%} of the target tokens are unknown (allowed: {most:.1%}) to the vocabulary, which lacks "
        f"{missing}",
        where=data.vocabulary,
        hint="is it of this language? jobs/train.py without vocabulary= makes one of these texts, a recipe with "
        "joint_vocabulary=true one of both languages; or raise batch.max_unknown (<phase>.batch.max_unknown there)",
    )


def _missing_characters(data: SpeechData, text: TextOptions, vocabulary: Vocabulary) -> list[str]:
    """The commonest characters of what is trained on that a vocabulary lacks, by the first texts of each source."""
    langs = [data.lang, *(lang for _, lang in data.further.values())]
    found = Counter[str]()
    for (_, source), lang in zip(sources(data), langs, strict=True):
        for sentence in islice(_texts(source, lang), _SAMPLED):
            found.update(normalise(sentence, lang, text))
    missing = (character for character, _ in found.most_common() if UNK in vocabulary.encode(character))
    return list(islice(missing, _NAMED))


def sources(data: SpeechData) -> list[tuple[str, Source]]:
    """All that is trained on, by name."""
    return [("train", data.train), *((name, source) for name, (source, _) in data.further.items())]


def encoder_of(data: SpeechData) -> dict[str, Any] | None:
    """Which encoder's states all the data have; none: filterbanks are read.

    Raises:
        ConfigError: those of several encoders.
    """
    found = [about_states(source.states) for _, source in sources(data) if source.states is not None]
    if not found:
        return None
    if len({(about["fingerprint"], about["layers"]) for about in found}) > 1:
        raise ConfigError("the sources have states of several encoders", hint="encode all of them with one")
    return found[0]
