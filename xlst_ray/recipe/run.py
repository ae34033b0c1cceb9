"""The recipe: prepare -> vocabulary -> high-resource ASR -> MT -> labels -> ST -> target ASR -> evaluate, by arm.

Wang, Pino, Gu: "Improving Cross-Lingual Transfer Learning for End-to-End Speech Recognition with Speech Translation",
Interspeech 2020. What the arms start from:

    scratch         nothing
    direct          high-resource ASR
    direct-matched  high-resource ASR, trained on for as many updates as ST was
    st-human        ST on human translations
    st-mt           ST on the labels of each engine
    joint           high-resource ASR, trained on for ST on the labels of each engine and target ASR in one run
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.batches.index import Source
from xlst_ray.errors import DataError
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.pairs import Pair
from xlst_ray.mt.quality import QualityOptions
from xlst_ray.recipe.arms import HUMAN, JOINT, ST_TEST, Start, label_sets, outline
from xlst_ray.recipe.options import Experiment, PhaseOptions
from xlst_ray.recipe.runner import Runner
from xlst_ray.shards.files import iter_texts, read_shard, shard_urls
from xlst_ray.stages.encode import describe_encoding, encode
from xlst_ray.stages.evaluate import describe_test, evaluate
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare
from xlst_ray.stages.pseudo_label import Labelling, LabelOptions, LabelSet, describe_labels, open_speech
from xlst_ray.stages.score_labels import score_and_report
from xlst_ray.stages.speech_data import SpeechData
from xlst_ray.stages.stage import Stage, StageResult, fingerprint
from xlst_ray.stages.text import (
    HELD_OUT_FILE,
    HeldOut,
    make_vocabulary,
    match_labels,
    read_held_out,
    without_held_out,
    write_held_out,
)
from xlst_ray.stages.train import describe_training, train_speech
from xlst_ray.stages.train_mt import collect_pairs, train_mt
from xlst_ray.text.keep import KeepOptions
from xlst_ray.text.leakage import Overlap, is_named, sentence_key

TRANSLATED: Final = "translated"  # name of the labelled speech beside that of the target language


class Recipe:
    """The stages of one experiment; each method runs its stage, and what the stage needs, unless that is done."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.runner = Runner(experiment.workspace, outline(experiment))
        self.source_lang, self.target_lang = experiment.source.corpus.lang, experiment.target.corpus.lang
        self.overlaps: list[Overlap] = []
        self._checked_labels: set[str] = set()

    def read_corpora(self) -> tuple[StageResult, StageResult]:
        """Both corpora, and labels that need no training, before hours of work: what is wrong there is said at once."""
        corpora = self.source, self.target
        for engine in label_sets(self.experiment):
            if engine == HUMAN or not self.experiment.engines[engine].trains_mt:
                self.labels(engine, self.experiment.seeds[0])
        return corpora

    @cached_property
    def source(self) -> StageResult:
        return self._prepare("source", self.experiment.source, ("train", "dev"))

    @cached_property
    def target(self) -> StageResult:
        return self._prepare("target", self.experiment.target, ("train", "dev", "test"))

    def _prepare(self, role: str, options: PrepareOptions, needed: Sequence[str]) -> StageResult:
        cluster = self.experiment.cluster
        result = self.runner.run(
            f"prepare {role}", describe_prepare(options), lambda folder: prepare(options, folder, cluster)
        )
        for split in needed:
            if not result.counts.get(split, {}).get("kept"):
                raise DataError(
                    f"the {role} language has no {split} split: training, development and test data are three",
                    where=options.corpus.path or options.corpus.reader,
                    hint=f"name the corpus' own split with {role}.corpus.splits.{split}=...",
                )
        return result

    def _states(self, role: str, shards: StageResult) -> str | None:
        """The frozen encoder's states of a corpus; none where there is no such encoder."""
        options, cluster = self.experiment.encoder, self.experiment.cluster
        if options.path is None:
            return None
        title, stage = f"encode {role}", describe_encoding(options, shards.folder)
        work = partial(encode, title, options, shards.folder)
        return self.runner.run(title, stage, lambda folder: work(folder, cluster)).folder

    @cached_property
    def source_states(self) -> str | None:
        return self._states("source", self.source)

    @cached_property
    def target_states(self) -> str | None:
        return self._states("target", self.target)

    @cached_property
    def held_out(self) -> StageResult:
        """The keys of the target language's test and dev sentences, checked against its training transcripts."""
        held_out, options = self._held_out, self.experiment.leakage
        texts = {"target-train": iter_texts(self.target.folder, "train")}
        self._check_leakage(texts)
        stage = Stage("held-out", {"min_words": options.min_words}, {"target": self.target.fingerprint})
        return self.runner.run("held-out sentences", stage, lambda folder: write_held_out(held_out, folder))

    @cached_property
    def _held_out(self) -> HeldOut:
        return HeldOut(self.target.folder, self.target_lang, self.experiment.leakage)

    def _check_leakage(self, texts: dict[str, Iterator[str]]) -> None:
        self.overlaps += self._held_out.check(texts).overlaps

    def _held_out_keys(self, text: str) -> frozenset[str]:
        """Keys of the sentences to leave out of a training text: none where `leakage.drop` does not name it."""
        if not is_named(text, self.experiment.leakage.drop):
            return frozenset()
        return read_held_out(storage.join(self.held_out.folder, HELD_OUT_FILE))

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """The sentence pairs of each MT model that is trained here, by engine; of all, so that arms change nothing."""
        found = {}
        for name, choice in self.experiment.engines.items():
            if choice.trains_mt:
                options = choice.mt.with_shards(self.source.folder)
                everything = collect_pairs(options, self.source_lang, self.target_lang)
                self._check_leakage({f"pairs-{name}": (pair[1] for pair in everything)})
                keys = self._held_out_keys(f"pairs-{name}")
                found[name] = [pair for pair in everything if sentence_key(pair[1], self.target_lang) not in keys]
        return found

    @cached_property
    def vocabulary(self) -> StageResult:
        """One for all models: target transcripts, the target side of MT pairs, and the source's where it is joint."""
        x, lang = self.experiment, self.target_lang
        config = {"text": x.text.resolved(), "vocabulary": x.vocabulary.identity(), "joint": x.joint_vocabulary}
        inputs = {"target": self.target.fingerprint, "pairs": fingerprint(self.pairs)}
        inputs["held-out"] = fingerprint([self.held_out.fingerprint, x.leakage.drop])
        texts = [(lang, self._kept("target-train", iter_texts(self.target.folder, "train")))]
        texts += [(lang, (pair[1] for pair in pairs)) for pairs in self.pairs.values()]
        if x.joint_vocabulary:
            inputs["source"] = self.source.fingerprint
            texts.append((self.source_lang, iter_texts(self.source.folder, "train")))
        stage = Stage("vocabulary", config, inputs)
        return self.runner.run("vocabulary", stage, lambda folder: make_vocabulary(texts, x.text, x.vocabulary, folder))

    def _kept(self, name: str, texts: Iterator[str]) -> Iterator[str]:
        return without_held_out(texts, self._held_out_keys(name), self.target_lang)

    def asr(self, seed: int) -> StageResult:
        """High-resource ASR."""
        return self._train_source(f"asr-{self.source_lang}", self.experiment.asr, seed)

    def matched(self, seed: int) -> StageResult:
        """High-resource ASR trained on as ST is: the control for the additional updates."""
        return self._train_source(f"asr-{self.source_lang}-matched", self.experiment.st, seed, init=self.asr(seed))

    def mt(self, engine: str, seed: int) -> StageResult:
        """The translation model of an engine."""
        options = self.experiment.engines[engine].mt
        pairs = self.pairs[engine]
        info = LMInfo(self.source_lang, self.target_lang)
        stage = Stage(
            f"mt-{engine}",
            options.training_config(seed, self.experiment.cluster.planned_ranks),
            {"pairs": fingerprint(pairs)},
        )
        title, cluster = f"mt-{engine} seed {seed}", self.experiment.cluster
        return self.runner.run(
            title, stage, lambda folder: train_mt(title, options, pairs, info, seed, folder, cluster)
        )

    def labels(self, engine: str, seed: int) -> StageResult:
        """The source transcripts in the target language."""
        if engine == HUMAN:
            return self._label(HUMAN, LabelOptions(engine=EngineOptions(engine="human")), "labels-human")
        choice = self.experiment.engines[engine]
        options, title = choice.labels, f"labels-{engine} seed {seed}"
        if choice.trains_mt:
            model = self.mt(engine, seed).folder
            options = options.replace(engine=options.engine.replace(path=model))
        else:
            title = f"labels-{engine}"
        return self._label(engine, options, title)

    def _label(self, engine: str, options: LabelOptions, title: str) -> StageResult:
        x, shards, target, name = self.experiment, self.source, self.target_lang, f"labels-{engine}"
        stage = describe_labels(engine, options, self.source_lang, target, shards.fingerprint)
        cache = storage.join(x.workspace, "translations")
        quality = x.engines[engine].quality if engine != HUMAN else QualityOptions()
        quality.check()  # before hours of translating

        def work(folder: str) -> dict[str, Any]:
            sets = [LabelSet(stage, folder, target)]
            labelling = Labelling(options, open_speech(shards.folder), sets, cache, x.cluster)
            labelling.check()
            return labelling.write(target, folder)

        result = self.runner.run(title, stage, work)
        if result.fingerprint not in self._checked_labels:  # each seed's own, where the engine is trained here
            self._checked_labels.add(result.fingerprint)
            keep = self._thresholds(engine)
            if keep is not None:
                score_and_report(shards.folder, result.folder, keep, quality, cache, x.cluster)
            matches = match_labels(
                f"look for leakage in {name}", self._held_out, shards, result.folder, keep, x.cluster
            )
            self.overlaps += self._held_out.judge({name: matches}).overlaps
        return result

    def st(self, engine: str, seed: int) -> StageResult:
        """Speech translation on the labels of an engine, from the high-resource ASR."""
        labels, shards, keep = self.labels(engine, seed), self.source.folder, self._thresholds(engine)
        data = SpeechData(
            train=Source(
                shards,
                "train",
                labels.folder,
                keep=keep,
                states=self.source_states,
                share=self._share(engine),
                held_out=self._held_out_file(f"labels-{engine}"),
            ),
            dev=Source(shards, "dev", labels.folder, keep=keep, states=self.source_states),
            lang=self.target_lang,
            vocabulary=self.vocabulary.folder,
            init=self.asr(seed).folder,
        )
        return self._train(f"st-{engine}", self.experiment.st, data, seed)

    def _thresholds(self, engine: str) -> KeepOptions | None:
        """The thresholds on the labels of an engine; none: all are used."""
        choice = self.experiment.engines.get(engine)
        return choice.keep if choice is not None and choice.scores else None

    def _share(self, engine: str) -> float:
        """The share of an engine's labels that is trained on."""
        choice = self.experiment.engines.get(engine)
        return 1.0 if choice is None else choice.share

    def target_asr(self, start: Start, seed: int) -> StageResult:
        """Target ASR of an arm."""
        name, phase = f"asr-{self.target_lang}-{start.name}", self.experiment.phase_of(start.arm)
        return self._train(name, phase, self.target_data(start, seed), seed)

    def target_data(self, start: Start, seed: int) -> SpeechData:
        """What the target ASR of an arm learns from, and the model that it starts from."""
        init = self._start_model(start, seed)
        held_out = self._held_out_file("target-train")
        data = SpeechData(
            train=Source(self.target.folder, "train", states=self.target_states, held_out=held_out),
            dev=Source(self.target.folder, "dev", states=self.target_states),
            lang=self.target_lang,
            vocabulary=self.vocabulary.folder,
            init=None if init is None else init.folder,
        )
        return self._with_labels(data, start.engine, seed) if start.engine and start.arm == JOINT else data

    def _with_labels(self, data: SpeechData, engine: str, seed: int) -> SpeechData:
        """Besides, the source language's speech with the labels of an engine."""
        choice = self.experiment.engines.get(engine)
        translated = Source(
            self.source.folder,
            "train",
            self.labels(engine, seed).folder,
            weight=1.0 if choice is None else choice.weight,
            keep=self._thresholds(engine),
            states=self.source_states,
            share=self._share(engine),
            held_out=self._held_out_file(f"labels-{engine}"),
        )
        return replace(data, further={TRANSLATED: (translated, self.target_lang)})

    def _start_model(self, start: Start, seed: int) -> StageResult | None:
        if start.engine is not None and start.arm != JOINT:
            return self.st(start.engine, seed)
        made = {"scratch": lambda _: None, "direct": self.asr, "direct-matched": self.matched, JOINT: self.asr}
        return made[start.arm](seed)

    def _train_source(self, name: str, phase: PhaseOptions, seed: int, init: StageResult | None = None) -> StageResult:
        data = SpeechData(
            train=Source(self.source.folder, "train", states=self.source_states),
            dev=Source(self.source.folder, "dev", states=self.source_states),
            lang=self.source_lang,
            vocabulary=self.vocabulary.folder,
            init=None if init is None else init.folder,
        )
        return self._train(name, phase, data, seed)

    def _train(self, name: str, phase: PhaseOptions, data: SpeechData, seed: int) -> StageResult:
        options = self.experiment.speech(phase)
        title, cluster = f"{name} seed {seed}", self.experiment.cluster
        stage = describe_training(name, options, data, seed, cluster.planned_ranks)
        return self.runner.run(title, stage, lambda folder: train_speech(title, options, data, seed, folder, cluster))

    def _held_out_file(self, text: str) -> str | None:
        if not is_named(text, self.experiment.leakage.drop):
            return None
        return storage.join(self.held_out.folder, HELD_OUT_FILE)

    def test(self, start: Start, seed: int) -> StageResult:
        """The target ASR of an arm on the target language's test set."""
        model = self.target_asr(start, seed)
        test = Source(self.target.folder, "test", states=self.target_states)
        return self._evaluate(f"test {start.name} seed {seed}", model, test, {"test": self.target.fingerprint})

    def chain(self, start: Start, seed: int) -> list[StageResult]:
        """The stages that an arm needs, data and vocabulary apart: what its seconds are counted over."""
        stages = [self.target_asr(start, seed), self.test(start, seed)]
        if start.arm != "scratch":
            stages.append(self.asr(seed))
        if start.arm == "direct-matched":
            stages.append(self.matched(seed))
        if start.engine is not None:
            stages += [self.labels(start.engine, seed)] + ([] if start.arm == JOINT else [self.st(start.engine, seed)])
            if start.engine != HUMAN and self.experiment.engines[start.engine].trains_mt:
                stages.append(self.mt(start.engine, seed))
        return stages

    def st_test(self, engine: str, seed: int) -> StageResult | None:
        """ST on the source language's test set against human translations, where the corpus has them."""
        title = f"{ST_TEST}st-{engine} seed {seed}"
        if not self.translated_test:
            for part in (title, "labels-human"):
                self.runner.skip(part, "the source language's test split has no human translations")
            return None
        model, human = self.st(engine, seed), self.labels(HUMAN, seed)
        test = Source(self.source.folder, "test", human.folder, states=self.source_states)
        return self._evaluate(title, model, test, {"test": human.fingerprint})

    @cached_property
    def translated_test(self) -> bool:
        """Whether the source language's test split has human translations, so that ST itself can be scored."""
        if not self.source.counts.get("test", {}).get("kept"):
            return False
        urls = shard_urls(self.source.folder, "test")
        rows = (row for url in urls for row in read_shard(url, ["translations"])["translations"].to_pylist())
        return any(self.target_lang in dict(row) for row in rows)

    def _evaluate(self, title: str, model: StageResult, test: Source, inputs: dict[str, str]) -> StageResult:
        options, cluster = self.experiment.evaluate, self.experiment.cluster
        stage = describe_test(options.resolved(), {**inputs, "model": model.fingerprint})
        return self.runner.run(
            title, stage, lambda folder: evaluate(title, options, model.folder, test, folder, cluster)
        )
