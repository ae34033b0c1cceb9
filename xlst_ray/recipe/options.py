"""An experiment as configuration."""

import re
from typing import Literal

from pydantic import ValidationError, model_validator

from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import Section, Seed, Url, did_you_mean, explain, option
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.transfer import TransferOptions
from xlst_ray.mt.quality import QualityOptions
from xlst_ray.stages.evaluate import EvaluateOptions
from xlst_ray.stages.prepare import PrepareOptions
from xlst_ray.stages.pseudo_label import LabelOptions
from xlst_ray.stages.states import EncoderOptions
from xlst_ray.stages.train import SpeechOptions
from xlst_ray.stages.train_mt import MTOptions
from xlst_ray.sweep.options import SearchOptions
from xlst_ray.text.keep import KeepOptions
from xlst_ray.text.leakage import LeakageOptions, is_named
from xlst_ray.text.normalise import TextOptions
from xlst_ray.text.vocabulary import VocabularyOptions
from xlst_ray.train.options import TrainOptions

Arm = Literal["scratch", "direct", "direct-matched", "st-human", "st-mt", "joint"]


class PhaseOptions(Section):
    """One training phase of the experiment: its optimisation, augmentation, and what it takes over."""

    train: TrainOptions = option(TrainOptions, "optimisation, validation, checkpoints")
    augment: AugmentOptions = option(AugmentOptions, "speeds and SpecAugment")
    batch: BatchOptions = option(BatchOptions, "how utterances become batches")
    transfer: TransferOptions = option(TransferOptions, "what is taken over from the model that it starts from")
    dropout: float | None = option(None, "every dropout of the model in this phase; none: as in model", ge=0, lt=1)


class EngineChoice(Section):
    """One way to translate the transcripts. A trained-lm without a path is trained here first."""

    labels: LabelOptions = option(LabelOptions, "the engine")
    scores: bool = option(False, "score the labels, and leave out those that the thresholds of keep refuse")
    quality: QualityOptions = option(QualityOptions, "a model that estimates their quality, as one more score")
    keep: KeepOptions = option(KeepOptions, "thresholds on the scores of labels")
    share: float = option(1.0, "of the labels that are trained on; a smaller share is part of a larger", gt=0, le=1)
    weight: float = option(1.0, "in the arm joint: how often they are met, beside target speech of their size", gt=0)
    mt: MTOptions = option(MTOptions, "for a trained-lm without a path: the model and its sentence pairs")

    @property
    def trains_mt(self) -> bool:
        """Whether its model is trained here."""
        return self.labels.engine.engine == "trained-lm" and self.labels.engine.path is None


class Experiment(Section):
    """Speech of a high-resource (source) and a low-resource (target) language -> target WER by arm."""

    name: str = option(..., "names the folder of the results", pattern=r"^\w[\w.-]*$")
    workspace: Url = option("runs", "folder or URL that holds stages and results")
    source: PrepareOptions = option(..., "the high-resource language")
    target: PrepareOptions = option(..., "the low-resource language")
    arms: tuple[Arm, ...] = option(("scratch", "direct", "st-mt"), "what the target ASR starts from", min_length=1)
    seeds: tuple[Seed, ...] = option((1,), "each trains everything anew", min_length=1)
    text: TextOptions = option(TextOptions, "normalisation, for training and scoring alike")
    vocabulary: VocabularyOptions = option(VocabularyOptions, "one vocabulary for all models")
    joint_vocabulary: bool = option(True, "the vocabulary covers the source language too: whole-model direct transfer")
    leakage: LeakageOptions = option(LeakageOptions, "what becomes of test and dev sentences in training texts")
    encoder: EncoderOptions = option(EncoderOptions, "a frozen pretrained encoder, whose states every model reads")
    model: ModelOptions = option(ModelOptions, "the architecture of every model")
    asr: PhaseOptions = option(PhaseOptions, "high-resource ASR")
    st: PhaseOptions = option(PhaseOptions, "speech translation, which starts from the high-resource ASR")
    finetune: PhaseOptions = option(PhaseOptions, "target ASR")
    joint: PhaseOptions = option(
        PhaseOptions, "ST and target ASR in one run (arm joint): both are met as batch.temperature says"
    )
    engines: dict[str, EngineChoice] = option({}, "what translates in the arm st-mt, by name")
    evaluate: EvaluateOptions = option(EvaluateOptions, "beam search and scores")
    search: SearchOptions = option(SearchOptions, "what a sweep of target ASR varies; for jobs/tune.py alone")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        if self.source.corpus.lang == self.target.corpus.lang:
            raise ValueError(f"source and target are the same language ({self.source.corpus.lang})")
        if "st-mt" in self.arms and not self.engines:
            raise ValueError("the arm st-mt needs an entry under engines")
        for name, choice in self.engines.items():
            engine = choice.labels.engine
            if name == "human" or not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"engines.{name}: another name, please: of letters, digits and ._-, and not human")
            if engine.engine == "human":
                raise ValueError(f"engines.{name} is human: that is the arm st-human")
            if choice.quality.path is not None and not choice.scores:
                raise ValueError(f"engines.{name}.quality is for scores: set engines.{name}.scores=true")
            varied = self.search.preset == "filters" or f"engines.{name}.scores" in self.search.space
            if choice.keep != KeepOptions() and not choice.scores and not varied:
                raise ValueError(f"engines.{name}.keep is for scores: set engines.{name}.scores=true")
            if choice.trains_mt and not choice.mt.pairs:
                raise ValueError(f"engines.{name} has neither a path nor sentence pairs to train on (mt.pairs)")
        texts = self.training_texts()
        for field in ("drop", "allow"):
            for pattern in getattr(self.leakage, field):
                if not any(is_named(text, [pattern]) for text in texts):
                    hint = did_you_mean(pattern, texts, "there are")
                    raise ValueError(f"leakage.{field}: {pattern} is no training text ({hint})")
        for field in ("arms", "seeds"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} holds an entry twice")
        if (self.evaluate.beam.ctc_weight or 0) > 0 and not self.model.ctc:
            raise ValueError(f"evaluate.beam.ctc_weight is {self.evaluate.beam.ctc_weight} but model.ctc is False")
        for name in ("asr", "st", "finetune", *(("joint",) if "joint" in self.arms else ())):
            try:
                self.speech(getattr(self, name))
            except ValidationError as error:
                raise ValueError(f"{name}: {explain(error)}") from None
        return self

    def training_texts(self) -> list[str]:
        """The texts in the target language that `leakage` can name, whichever of them the arms need."""
        labels = [f"labels-{name}" for name in ("human", *self.engines)]
        pairs = [f"pairs-{name}" for name, choice in self.engines.items() if choice.trains_mt]
        return ["target-train", *labels, *pairs]

    def phase_of(self, arm: Arm) -> PhaseOptions:
        """The last training of an arm, that of its target ASR."""
        return self.joint if arm == "joint" else self.finetune

    def speech(self, phase: PhaseOptions) -> SpeechOptions:
        """All options of a training phase."""
        every = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), phase.dropout)
        return SpeechOptions(
            model=self.model if phase.dropout is None else self.model.replace(**every),
            text=self.text,
            train=phase.train,
            batch=phase.batch,
            augment=phase.augment,
            transfer=phase.transfer,
        )
