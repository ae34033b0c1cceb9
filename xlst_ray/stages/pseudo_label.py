"""Shards -> label files beside them, for one target language or many: every distinct sentence translated once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.cluster.llm import refuse_unfit
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, do_items, map_items
from xlst_ray.config import Section, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.buckets import SourceTexts, group_shards
from xlst_ray.mt.engines import open_translator, refuse_unable
from xlst_ray.mt.labels import answer, assemble_labels, human_labels, sum_counts
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.translations import Translations
from xlst_ray.progress import say
from xlst_ray.shards.files import shard_urls
from xlst_ray.shards.schema import SPLITS
from xlst_ray.stages.source_texts import prepare_texts, tasks
from xlst_ray.stages.stage import (
    DESCRIPTION,
    Stage,
    StageResult,
    find_finished,
    fingerprint,
    finished,
    refuse_other,
    run_stage,
)
from xlst_ray.stages.translate import Engine, LlmEngine, Wanted, estimate, translate

ATTEMPTS = "attempts.json"  # of a label set whose failures were tried again, and of its translations
TRANSLATIONS_VERSION = 1  # raised when the files of `Translations` or what engines see of a sentence change


class LabelOptions(Section):
    """What translates, in which portions, and at which price."""

    engine: EngineOptions = option(EngineOptions, "the engine")
    buckets: int | None = option(
        None,
        "portions of the sentences, the unit of work and of resume: a power of two; none: by the number of rows",
        ge=1,
        le=2**16,
    )
    price: PriceOptions = option(PriceOptions, "for estimates, for the cost at the end, and for a cap on it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.buckets is not None and self.buckets & (self.buckets - 1):
            below = 1 << (self.buckets.bit_length() - 1)
            raise ValueError(f"buckets must be a power of two: {below} or {2 * below}, not {self.buckets}")
        if self.engine.engine == "vllm" and self.price.cap is not None:
            raise ValueError("price.cap is for engines that are paid by the token, and vllm is paid by the hour")
        return self


@dataclass(frozen=True)
class Speech:
    """The shards whose transcripts are translated.

    Attributes:
        stage: the finished stage that made them.
        lang: their language.
        urls: of the shards of all splits that have any.
        rows: in all of them.
    """

    stage: StageResult
    lang: str
    urls: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class LabelSet:
    """The labels of one target language: their stage and its folder."""

    stage: Stage
    folder: str
    target: str


def open_speech(shards: str) -> Speech:
    """A shard folder as the source of labels.

    Raises:
        DataError: it is not that of a finished stage, or has no shards.
    """
    stage = finished(shards, "corpus")
    kept = {split: stage.counts.get(split, {}).get("kept", 0) for split in SPLITS}
    urls = [url for split in SPLITS if kept[split] for url in shard_urls(shards, split)]
    if not urls:
        raise DataError("has no utterance in any split", where=shards, hint="make shards with jobs/prepare.py")
    return Speech(stage, str(stage.config["corpus"]["lang"]), tuple(urls), sum(kept.values()))


def describe_labels(name: str, options: LabelOptions, source: str, target: str, shards_fingerprint: str) -> Stage:
    """The stage of a label set: engine, limits, content of the model, and the shards."""
    config = {"engine": options.engine.label_config(), "source": source, "target": target}
    inputs = {"shards": shards_fingerprint, "engine": options.engine.content_fingerprint(source, target)}
    return Stage(f"labels-{name}", config, inputs, version=2)


@dataclass(frozen=True)
class Labelling:
    """The labels of some shards in one target language or several, going on from what is there.

    Raises:
        ConfigError: a folder holds other labels, or the engine does not translate into a target language.

    Attributes:
        speech: what is translated.
        sets: a label set for each target language.
        cache_folder: where translations of this and of all earlier runs lie.
        retry_errors: try what has failed once more, in finished label sets, too.
    """

    options: LabelOptions
    speech: Speech
    sets: Sequence[LabelSet]
    cache_folder: str
    cluster: ClusterOptions
    retry_errors: bool = False

    def check(self) -> None:
        """Refuse what cannot be, before any work, and tell where text goes."""
        if self.wanted and self.options.engine.engine == "http" and (host := _outside(self.options.engine.http.url)):
            say(f"notice: transcripts are sent to {host}, outside this cluster")

    def run(self) -> list[StageResult]:
        """Write the label files of every set."""
        return [
            run_stage(one.stage, one.folder, partial(self.write, one.target), again=self.retry_errors)
            for one in self.sets
        ]

    def write(self, target: str, folder: str) -> dict[str, Any]:
        """Write the label files of a target language; returns counts for `run_stage`."""
        if self.options.engine.engine == "human":
            title = f"translate {self.speech.lang}-{target} (human)"
            groups = group_shards(self.speech.urls, self.speech.rows)
            return self._write(title, target, partial(_human, folder, target), groups, folder)
        (texts, groups), one = self.texts, self.wanted[target]
        counts = self.translated[target]
        if one.attempt:
            storage.write_json(storage.join(folder, ATTEMPTS), {"attempts": one.attempt})
        answers = partial(_answerer, texts, one.translations, folder, one.attempt)
        blocks = list(range(texts.blocks))
        pool = tasks(self.cluster)
        do_items(f"{one.title}, answers", "blocks", answers, blocks, self.cluster, pool=pool, folder=folder)
        labels = self._write(one.title, target, partial(_assembler, texts, folder, one.attempt), groups, folder)
        return {**labels, "translation": counts}

    def estimate(self, limit: int) -> None:
        """Print what is left to do, and what it may take by a sample of `limit` sentences; writes no labels."""
        wanted = list(self.wanted.values())
        if wanted:
            estimate(self.texts[0], wanted, self._engine, self.options.price, self.cluster, limit)

    @cached_property
    def wanted(self) -> dict[str, Wanted]:
        """What the sets need that are not finished; empty for human labels."""
        found = {}
        for one in self.sets:
            refuse_other(one.stage, one.folder)
            done = find_finished(one.folder)
            if self.options.engine.engine != "human" and (done is None or self.retry_errors):
                known = translations_of(self.options, self.speech.lang, one.target, self.cache_folder)
                attempt = _attempt(one.folder, known.folder, done, self.retry_errors)
                found[one.target] = _wanted(self.options, self.speech.lang, one, known, attempt)
        self._refuse_unable(list(found))
        return found

    @cached_property
    def texts(self) -> tuple[SourceTexts, list[list[str]]]:
        """The sentences in buckets, and the shards in groups."""
        speech = self.speech
        return prepare_texts(
            speech.stage, speech.urls, speech.rows, self.options.buckets, self.cache_folder, self.cluster
        )

    @cached_property
    def translated(self) -> dict[str, dict[str, Any]]:
        """Counts by target language, once the sentences of all sets are translated."""
        for one in self.sets:
            if one.target in self.wanted and (attempt := self.wanted[one.target].attempt):
                known = self.wanted[one.target].translations.folder
                begun = storage.exists(storage.join(one.folder, DESCRIPTION))  # else `write` does it, once it is
                for folder in (known, one.folder) if begun else (known,):
                    most = max(attempt, _attempts(folder))  # another label set's may be above
                    storage.write_json(storage.join(folder, ATTEMPTS), {"attempts": most})
        counts = translate(self.texts[0], list(self.wanted.values()), self._engine, self.options.price, self.cluster)
        return dict(zip(self.wanted, counts, strict=True))

    def _refuse_unable(self, targets: Sequence[str]) -> None:
        """What the engine cannot do is said before work is sent out."""
        if self.options.engine.engine != "vllm":
            for target in targets:
                refuse_unable(self.options.engine, self.speech.lang, target)
        elif targets:
            asked = (self.options.engine.specify(self.speech.lang, target) for target in targets)
            refuse_unfit(self.options.engine, self.cluster, asked)

    @property
    def _engine(self) -> Engine:
        engine, lang = self.options.engine, self.speech.lang
        if engine.engine == "vllm":
            return LlmEngine(engine, {target: engine.specify(lang, target) for target in self.wanted})
        return partial(open_translator, engine, lang, gpu=self.cluster.translate_on_gpu)

    def _write(
        self, title: str, target: str, label: Callable[[], Work], groups: Sequence[Sequence[str]], folder: str
    ) -> dict[str, Any]:
        """Write label files group by group, and count and judge their rows."""
        items, pool = list(enumerate(groups)), tasks(self.cluster)
        counts = map_items(f"{title}, label files", "groups", label, items, self.cluster, pool=pool, folder=folder)
        total = sum_counts(counts)
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in total["reasons"].items()) or "none"
        say(f"{title}: {total['ok']:,} of {total['rows']:,} rows have a label; without: {reasons}")
        if total["ok"] == 0:
            storage.delete(storage.join(folder, ATTEMPTS))  # another retry is another one, though this has not ended
            what = f"no sentence has a translation into {target} ({reasons})"
            raise DataError(what, where=self.speech.stage.folder, hint=self._hint(target))
        return {**total}

    def _hint(self, target: str) -> str:
        if self.options.engine.engine == "human":
            return "has the corpus translations into this language?"
        kept = self.wanted[target].translations.folder
        if self.options.engine.engine == "phrasebook":
            texts = self.texts[0]
            buckets = map(texts.bucket, range(texts.buckets))
            sentence = next((text for bucket in buckets for text in bucket.to_pylist()), "")
            return (
                f"the table has no {sentence[:100]!r}, nor any other of the transcripts: a row counts where it is the "
                "transcript as the corpus has it, case and punctuation included; then name another out"
            )
        return (
            "does the engine speak these languages? What has failed is not asked for again by itself: "
            f"jobs/pseudo_label.py --retry-errors does, or delete {kept}"
        )


def open_labelling(
    options: LabelOptions,
    shards: str,
    targets: Sequence[str],
    out: str,
    cache_folder: str | None,
    cluster: ClusterOptions,
    retry_errors: bool = False,
) -> Labelling:
    """The labels of a shard folder in `out`, or for several targets in `out/<target>`; all that can be refused is.

    Raises:
        ConfigError: the speech is in a target language, or as for `Labelling`.
        DataError: the shards are not those of a finished stage.
    """
    speech = open_speech(shards)
    if speech.lang in targets:
        raise ConfigError(f"the speech is in {speech.lang} already", where=f"target={speech.lang}")
    if twice := sorted({target for target in targets if list(targets).count(target) > 1}):
        raise ConfigError("is there twice", where=f"target={twice[0]}")
    sets = []
    for target in targets:
        stage = describe_labels("labels", options, speech.lang, target, speech.stage.fingerprint)
        sets.append(LabelSet(stage, out if len(targets) == 1 else storage.join(out, target), target))
    cache_folder = cache_folder or storage.join(storage.parent(out), "translations")
    labelling = Labelling(options, speech, sets, cache_folder, cluster, retry_errors)
    labelling.check()
    return labelling


def translations_of(options: LabelOptions, source: str, target: str, cache_folder: str) -> Translations:
    """Where the translations of an engine lie: by all that decides them, and by nothing else."""
    engine = options.engine
    print_ = fingerprint([TRANSLATIONS_VERSION, engine.label_config(), engine.content_fingerprint(source, target)])
    return Translations(storage.join(cache_folder, f"{source}-{target}-{print_}"))


def _wanted(options: LabelOptions, source: str, one: LabelSet, translations: Translations, attempt: int) -> Wanted:
    title = f"translate {source}-{one.target} ({options.engine.engine})"
    return Wanted(title, one.target, translations, one.stage.fingerprint, attempt, about=dict(one.stage.config))


def _outside(url: str | None) -> str:
    """The host of a URL, unless it is this machine or one of a private network; then nothing."""
    host = urlsplit(url or "").hostname or ""
    try:
        return "" if not ip_address(host).is_global else host
    except ValueError:  # a name
        return host if "." in host and not host.endswith((".local", ".internal")) else ""


def _attempt(folder: str, translations: str, done: StageResult | None, retry_errors: bool) -> int:
    """The number of the last retry of a label set, 0 for none; a new one is above all that its translations have seen,
    those for other label sets included. A retry that was killed goes on as the same one."""
    attempt = _attempts(folder)
    return 1 + max(attempt, _attempts(translations)) if retry_errors and (done is not None or attempt == 0) else attempt


def _attempts(folder: str) -> int:
    url = storage.join(folder, ATTEMPTS)
    return int(storage.read_json(url)["attempts"]) if storage.exists(url) else 0


def _answerer(texts: SourceTexts, translations: Translations, folder: str, attempt: int) -> Work:
    return lambda block: answer(texts, block, translations, folder, attempt)


def _assembler(texts: SourceTexts, folder: str, attempt: int) -> Work:
    return lambda item: assemble_labels(texts, item[0], item[1], folder, attempt, replace=attempt > 0)


def _human(folder: str, target: str) -> Work:
    return lambda item: sum_counts(human_labels(url, folder, target) for url in item[1])
