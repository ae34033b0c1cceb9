"""The speech training stage: index, transfer, training, and the model folder that comes out.

A model folder holds `model.safetensors`, `model.json` (architecture), `vocabulary.model` and `text.json`
(normalisation), so that it is all that recognition needs; beside them
`transfer.txt` (what was taken over) and `training.json` (validations).
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.audio.fbank import MEL_BINS, SAMPLE_RATE, SHIFT
from xlst_ray.batches.index import Index, Source, TargetText, build_index, join, show_left_out
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import EpochPlan
from xlst_ray.batches.source import BatchSource, PlainSource
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.stream import RaySource, whole_cpus
from xlst_ray.cluster.train import OnValidation, run_training
from xlst_ray.config import Section, option
from xlst_ray.errors import ConfigError, DataError, TransferError
from xlst_ray.model.ctc import ctc_frames_needed
from xlst_ray.model.encoders import Frontend, PretrainedEncoder, depths
from xlst_ray.model.files import load_model, save_model
from xlst_ray.model.options import ModelOptions, PretrainedOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import CONFIG
from xlst_ray.model.transfer import TransferOptions, plan_transfer
from xlst_ray.progress import say
from xlst_ray.stages.batch_fit import fit_batches
from xlst_ray.stages.speech_data import (
    SpeechData,
    content,
    encoder_of,
    labels_fingerprint,
    refuse_unknown,
    scores_fingerprints,
    sources,
)
from xlst_ray.stages.stage import Stage, fingerprint, finished
from xlst_ray.stages.states import ABOUT
from xlst_ray.stages.text import read_held_out, read_vocabulary
from xlst_ray.text.ids import UNK
from xlst_ray.text.leakage import sentence_key
from xlst_ray.text.normalise import TextOptions, normalise
from xlst_ray.text.vocabulary import Vocabulary
from xlst_ray.train.checkpoint import load_weights
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import World
from xlst_ray.train.task import Task

_SUBSAMPLER = re.compile(r"encoder\.(top\.)?conv\.")
INIT_FOLDER = "init"
TRAIN_INDEX = "index-train.parquet"
DEV_INDEX = "index-dev.parquet"


class SpeechOptions(Section):
    """All that decides how a speech model is trained, its data apart."""

    model: ModelOptions = option(ModelOptions, "the architecture")
    train: TrainOptions = option(TrainOptions, "optimisation, validation, checkpoints")
    batch: BatchOptions = option(BatchOptions, "how utterances become batches")
    augment: AugmentOptions = option(AugmentOptions, "speeds and SpecAugment")
    text: TextOptions = option(TextOptions, "normalisation of the targets")
    transfer: TransferOptions = option(TransferOptions, "what is taken over from the initial model")

    @model_validator(mode="after")
    def _check(self) -> "SpeechOptions":
        if self.model.ctc != (self.train.ctc_weight > 0):
            raise ValueError(
                f"model.ctc is {self.model.ctc} but train.ctc_weight is {self.train.ctc_weight}: "
                "a CTC head needs a weight above 0, and a weight needs the head"
            )
        if self.batch.fit and self.train.parallel == "fsdp":
            raise ValueError("batch.fit tries the whole model on one device, which train.parallel=fsdp is to spare")
        return self


@dataclass(frozen=True)
class SpeechJob:
    """A `TrainJob`: what every rank needs to build its task. All of it lies in the stage folder."""

    title: str
    options: TrainOptions
    seed: int
    folder: str
    batch: BatchOptions
    augment: AugmentOptions
    freeze: Mapping[str, int]
    loader_cpus: float
    frames_per_second: float

    def build(self, world: World, *, streaming: bool) -> Task[Any]:
        with storage.local_folder(storage.join(self.folder, INIT_FOLDER)) as init:
            model, vocabulary = load_model(init), Vocabulary.load(init)
        make = self._streaming_source if streaming else self._plain_source
        source = make(world, model.frontend)
        return SpeechTask(
            model,
            source,
            self.options,
            freeze=self.freeze,
            device=world.device,
            frames_per_second=self.frames_per_second,
            decode=vocabulary.decode,
            tagged=bool(vocabulary.tags),
        )

    def _loader(
        self, name: str, augment: AugmentOptions | None, frontend: Frontend | None, threads: int = 1
    ) -> BatchLoader:
        index = Index.load(storage.join(self.folder, name))
        return BatchLoader(index, self.batch, augment=augment, seed=self.seed, frontend=frontend, threads=threads)

    def _plain_source(self, world: World, frontend: Frontend | None) -> BatchSource:
        train = self._loader(TRAIN_INDEX, self.augment, frontend, whole_cpus(self.loader_cpus))
        dev = self._loader(DEV_INDEX, None, frontend)
        return PlainSource(train, dev, world.shares, world.planned)

    def _streaming_source(self, world: World, frontend: Frontend | None) -> BatchSource:
        return RaySource(
            storage.join(self.folder, TRAIN_INDEX),
            self.batch,
            self.augment,
            self._loader(DEV_INDEX, None, frontend),
            seed=self.seed,
            ranks=world.shares,
            world=world.planned,
            loader_cpus=self.loader_cpus,
            frontend=frontend,
        )


def describe_training(name: str, options: SpeechOptions, data: SpeechData, seed: int, ranks: int) -> Stage:
    """The stage of a training: its options, seed, number of processes, and the content of all that it reads."""
    if data.init is None:
        options = options.replace(transfer=TransferOptions())  # nothing to take over, so no part of what it is
    config = options.identity()
    for key in ("cache_mb", "max_ctc_infeasible", "max_unknown"):
        config["batch"].pop(key, None)
    del config["train"]["log_every"]
    inputs = {"shards": finished(data.train.shards, "corpus").fingerprint}
    if options.model.pretrained.path is not None:
        inputs["pretrained"] = _fingerprint_of_pretrained(options.model.pretrained)
        del config["model"]["pretrained"]["path"], config["model"]["pretrained"]["revision"]
        config["model"]["pretrained"]["heard"] = "whole"  # since what is not is left out
    vocabulary = read_vocabulary(data.vocabulary)
    inputs["vocabulary"] = vocabulary.fingerprint
    if vocabulary.tags:
        config["writes"] = sorted({data.lang, *(lang for _, lang in data.further.values())})
    if data.train.labels is not None:
        inputs["labels"] = labels_fingerprint(data.train.labels, data.train.shards)
    for part, (source, _) in data.further.items():
        inputs[f"shards-{part}"] = finished(source.shards, "corpus").fingerprint
        if source.labels is not None:
            inputs[f"labels-{part}"] = labels_fingerprint(source.labels, source.shards)
    if data.further:
        config["sources"] = {part: source.weight for part, (source, _) in data.further.items()}
    for part, source in sources(data):
        if source.states is not None:
            states = finished(source.states, "encoder")
            inputs[f"states-{part}"] = states.fingerprint
            if states.counts.get("cut"):
                config["heard"] = "whole"  # as above
        if source is not data.train and source.held_out != data.train.held_out:
            inputs[f"held-out-{part}"] = "none" if source.held_out is None else content(source.held_out)
        if source.share != 1.0:
            config[f"share-{part}"] = source.share
        if source.labels is not None and source.keep is not None:
            suffix = "" if source is data.train else f"-{part}"
            config[f"keep{suffix}"] = source.keep.identity()
            inputs |= {
                f"{name}{suffix}": found for name, found in scores_fingerprints(source.labels, source.keep).items()
            }
    if data.init is not None:
        inputs["init"] = _model_fingerprint(data.init)
    if data.train.held_out is not None:
        inputs["held-out"] = content(data.train.held_out)
    return Stage(name, {**config, "lang": data.lang, "seed": seed, "ranks": ranks}, inputs, version=2)


def _pretrained(options: PretrainedOptions) -> PretrainedEncoder | None:
    """The encoder below the model's own; none where none is named."""
    if options.path is None:
        return None
    from xlst_ray.model.pretrained import find_pretrained, load_pretrained  # transformers takes seconds

    encoder = load_pretrained(find_pretrained(options.path, options.revision), options.layers)
    encoder.frozen = options.frozen
    return encoder


def _fingerprint_of_pretrained(options: PretrainedOptions) -> str:
    from xlst_ray.model.pretrained import find_pretrained, fingerprint_of

    return fingerprint_of(find_pretrained(str(options.path), options.revision))


def _model_fingerprint(folder: str) -> str:
    """A stage's own; that of the files where the folder is a transformers checkpoint."""
    if storage.exists(storage.join(folder, CONFIG)):
        return fingerprint([content(url) for url in storage.list_files(folder)])
    return finished(folder, "lang").fingerprint


def train_speech(
    title: str,
    options: SpeechOptions,
    data: SpeechData,
    seed: int,
    folder: str,
    cluster: ClusterOptions,
    on_validation: OnValidation | None = None,
) -> dict[str, Any]:
    """Train a speech model into a stage folder and return its counts; `on_validation` hears the scores on the way.

    Raises:
        DataError: no usable utterance, too many that CTC cannot align, or a vocabulary that is not of these texts.
        TransferError: the initial model gives less than the transfer plan asks for.
        TrainingError: the loss is no number.
        ConfigError: other speeds are asked of states, or the sources have states of several encoders.
    """
    about = _encoder_of(options, data)
    vocabulary = read_vocabulary(data.vocabulary)
    model, freeze, transfer = _initial_model(options, data, vocabulary, seed, about)
    if model.input_dim == SHIFT and model.frontend is not None and options.augment.sizes(1000).freq_masks:
        what = "the encoder reads samples, which have no bins to mask"
        raise ConfigError(what, where="augment", hint="set augment.freq_masks=0")
    index = partial(_index, options, vocabulary, model.longest)
    train, dev = index(data.train, data.lang), index(data.dev, data.lang)
    further = [index(source, lang) for source, lang in data.further.values()]
    train = join([train, *further]) if further else train
    refuse_unknown(title, train, options.batch.max_unknown, data, options.text, vocabulary)
    train.save(storage.join(folder, TRAIN_INDEX))
    dev.save(storage.join(folder, DEV_INDEX))
    _save(model, vocabulary, options, data.lang, about, storage.join(folder, INIT_FOLDER))
    storage.write_bytes(storage.join(folder, "transfer.txt"), transfer.encode())
    say(transfer)

    loader, rate = cluster.loader_cpus, train.frames_per_second
    job = SpeechJob(title, options.train, seed, folder, options.batch, options.augment, freeze, loader, rate)
    batch = fit_batches(job, train, options.batch, options.augment, folder, cluster)
    plan = EpochPlan(train, batch, seed=seed, epoch=0, lanes=cluster.planned_ranks, augment=options.augment)
    facts = _describe(title, train, plan, model, options, vocabulary)
    job = replace(job, batch=batch)
    trained = run_training(job, folder, cluster, on_validation)
    load_weights(model, trained.weights)
    _save(model, vocabulary, options, data.lang, about, folder)
    storage.write_json(storage.join(folder, "training.json"), {"validations": trained.state.validations})
    seconds = {"training_seconds": round(trained.state.seconds, 1)}
    skipped = {"skipped_updates": trained.state.skipped} if options.train.precision == "fp16" else {}
    return {**facts, "updates": trained.state.update, **skipped, **seconds, "dev": trained.state.validations[-1]}


def _encoder_of(options: SpeechOptions, data: SpeechData) -> dict[str, Any] | None:
    """Which encoder's states are read; none: filterbanks are, or what the model's own pretrained encoder reads."""
    about = encoder_of(data)
    if about is not None and options.model.pretrained.path is not None:
        raise ConfigError("states take the place of a pretrained encoder in the model", where="model.pretrained.path")
    if about is not None and options.augment.speeds != (1.0,):
        raise ConfigError("states cannot be played at other speeds", where="augment.speeds", hint="set it to [1.0]")
    return about


def _initial_model(
    options: SpeechOptions, data: SpeechData, vocabulary: Vocabulary, seed: int, about: dict[str, Any] | None
) -> tuple[S2TModel, dict[str, int], str]:
    """The model before its first update, the first update of frozen parameters, and the transfer plan as text."""
    torch.manual_seed(seed)
    dim, pretrained = MEL_BINS if about is None else about["dim"], _pretrained(options.model.pretrained)
    model = S2TModel(options.model.architecture(), len(vocabulary), dim, pretrained)
    never = dict.fromkeys(_frozen_for_good(model, options.model.pretrained), options.train.updates + 1)
    below = "" if pretrained is None else _tell_pretrained(model, options.model.pretrained, never)
    if data.init is None:
        return model, never, f"starts from random weights{below}"
    with storage.local_folder(data.init) as folder:
        source = load_model(folder)
        source_pieces = Vocabulary.load(folder).pieces
    if source.architecture.heads != model.architecture.heads:  # which no shape shows
        what = f"has {source.architecture.heads} attention heads, the model {model.architecture.heads}"
        raise TransferError(what, where=data.init, hint=f"set model.heads={source.architecture.heads}")
    plan = plan_transfer(source.state_dict(), source_pieces, model, vocabulary.pieces, options.transfer)
    here, there = list(model.architecture.strides), list(source.architecture.strides)
    taken = any(entry.action != "reset" and _SUBSAMPLER.match(entry.name) for entry in plan.entries)
    if taken and here != there:  # nor does any shape show these
        what = f"has a convolution with strides {there}, the model {here}"
        raise TransferError(what, where=data.init, hint=f"set model.strides={there}")
    plan.apply(model)
    freeze = {entry.name: entry.frozen_until for entry in plan.entries if entry.frozen_until > 0}
    return model, {**freeze, **never}, f"starts from {data.init}{below}\n{plan.table()}"


def _tell_pretrained(model: S2TModel, options: PretrainedOptions, never: Mapping[str, int]) -> str:
    sizes = {name: value.numel() for name, value in model.named_parameters() if ".pretrained." in name}
    fixed = sum(size for name, size in sizes.items() if name in never)
    return f", on the encoder of {options.path}, of which {fixed:,} of {sum(sizes.values()):,} parameters never train"


def _frozen_for_good(model: S2TModel, options: PretrainedOptions) -> set[str]:
    """Parameters of the pretrained encoder that never train: those that its own training left alone (Whisper's table of
    positions), and what `options` says.

    Raises:
        ConfigError: more layers are to be frozen than there are.
    """
    below, fixed = depths(model), {name for name, value in model.named_parameters() if not value.requires_grad}
    layers = max(below.values(), default=1) - 1
    if options.frozen_layers > layers:
        raise ConfigError(f"the encoder has {layers} layers", where="model.pretrained.frozen_layers")
    lowest = layers - options.frozen_layers + 1 if options.frozen_layers else layers + 2
    return fixed | {name for name, depth in below.items() if options.frozen or depth >= lowest}


def _index(options: SpeechOptions, vocabulary: Vocabulary, longest: int | None, source: Source, lang: str) -> Index:
    """`longest`: samples of an utterance, at the slowest speed, that the encoder hears; none: all."""
    held_out = frozenset[str]() if source.held_out is None else read_held_out(source.held_out)
    text = TargetText(
        normalise=lambda sentence: normalise(sentence, lang, options.text),
        encode=lambda sentence: vocabulary.target(sentence, lang),
        leaked=lambda sentence: sentence_key(sentence, lang) in held_out,
    )
    heard = None if longest is None else longest / SAMPLE_RATE * min(options.augment.speeds)
    return build_index(source, text, options.batch, longest=heard)


def _describe(
    title: str, index: Index, plan: EpochPlan, model: S2TModel, options: SpeechOptions, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Count and print what is trained on; refuse data that CTC cannot align."""
    first = int(bool(vocabulary.tags))  # CTC does not emit the tag
    needed = np.array([ctc_frames_needed(index.tokens_of(row)[first:].tolist()) for row in range(len(index))])
    infeasible = float(np.mean(needed > model.output_lengths(torch.tensor(index.frames)).numpy()))
    unknown = float(np.mean(index.tokens == UNK))
    tags = frozenset(vocabulary.tags.values())  # `<2en>` is no digit
    numeral = [id_ not in tags and any(map(str.isdecimal, piece)) for id_, piece in enumerate(vocabulary.pieces)]
    digits = float(np.mean(np.array(numeral)[index.tokens]))
    parameters, epoch = sum(p.numel() for p in model.parameters()), plan.facts()
    say(
        f"{title}: {len(index)} utterances, {index.frames.sum() / index.frames_per_second / 3600:.2f} h, "
        f"{parameters / 1e6:.1f}M parameters, "
        f"{epoch.padding:.1%} padding, {unknown:.2%} unknown tokens, {digits:.2%} with digits, "
        f"{infeasible:.2%} with too few encoder steps for CTC; "
        f"{epoch.batches} batches an epoch, in which {epoch.left_out} utterances have no place; "
        f"left out: {show_left_out(index.counts)}"
    )
    if options.train.ctc_weight > 0 and infeasible > options.batch.max_ctc_infeasible:
        raise DataError(
            f"{title}: CTC cannot align {infeasible:.1%} of the utterances, which have more tokens than encoder steps "
            f"(allowed: {options.batch.max_ctc_infeasible:.1%})",
            hint="use a larger vocabulary, smaller model.strides or no CTC; leave out labels that are too long "
            "(engines.<name>.scores=true of a recipe, scores=true of jobs/train.py); or raise batch.max_ctc_infeasible "
            "(<phase>.batch.max_ctc_infeasible of a recipe, such as st.batch.max_ctc_infeasible)",
        )
    shares = {"unknown_share": unknown, "digit_share": digits, "ctc_infeasible_share": infeasible}
    return {**index.counts, "parameters": parameters, **shares}


def _save(
    model: S2TModel,
    vocabulary: Vocabulary,
    options: SpeechOptions,
    lang: str,
    about: dict[str, Any] | None,
    folder: str,
) -> None:
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        save_model(Path(temporary), model)
        vocabulary.save(Path(temporary))
        text = {"lang": lang, "text": options.text.resolved()}
        (Path(temporary) / "text.json").write_text(json.dumps(text, indent=2))
        if about is not None:
            (Path(temporary) / ABOUT).write_text(json.dumps(about, indent=2))
        storage.copy_folder(temporary, folder)
