"""From the search section of an experiment to its trials: what may vary is checked first, then each is a stage.

A trial is a fine-tuning of the recipe, named by its content as every stage is, and scored on the development set. What
it starts from is made once, before the trials, whatever their number.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.batches.index import Source
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.train import OnValidation
from xlst_ray.config import did_you_mean
from xlst_ray.errors import ConfigError
from xlst_ray.recipe.arms import HUMAN, JOINT, Start, starts
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.run import Recipe
from xlst_ray.shards.schema import Split
from xlst_ray.stages.evaluate import evaluate
from xlst_ray.stages.speech_data import SpeechData
from xlst_ray.stages.stage import Stage, StageResult, run_stage
from xlst_ray.stages.train import SpeechOptions, describe_training, train_speech
from xlst_ray.sweep.options import Domain
from xlst_ray.sweep.presets import START, filters_space, phase_space
from xlst_ray.sweep.space import Assignment, Space, canonical

LATE: Final = ("finetune.", "joint.")  # keys that change nothing of what the last training starts from
# What would make trials that cannot be compared, or no trials at all.
FIXED: Final = ("name", "workspace", "seeds", "arms", "target", "text", "evaluate.score", "cluster", "search")
RETOKENISING: Final = ("vocabulary", "joint_vocabulary")
_DRAWS: Final = 64  # of the space, where the trials are not known beforehand


def search_space(experiment: Experiment) -> Space:
    """The space of an experiment, every key of which is one.

    Raises:
        ConfigError: nothing varies, an unknown key (with the nearest right one), one that may not vary, or a condition
            that can never hold.
    """
    search = experiment.search
    domains = {**_preset(experiment), **search.space}
    if not domains:
        raise ConfigError("nothing is to vary", where="search", hint="give search.space, or search.preset=quick")
    base = {key: standing(experiment, key) for domain in domains.values() for key in domain.when}
    for key in domains:
        standing(experiment, key)
        if any(f"{key}.".startswith(f"{fixed}.") for fixed in FIXED):
            hint = "leave it out: " + (
                "an arm varies as `start`" if key == "arms" else "trials are compared on one development set"
            )
            raise ConfigError(f"{key} may not vary", where="search.space", hint=hint)
        if search.stop != "none" and key.split(".")[0] in RETOKENISING:
            raise ConfigError(
                f"{key} changes what a token is, and early stopping compares the accuracy of tokens",
                where="search.space",
                hint="set search.stop=none",
            )
    _check_conditions(experiment, domains)
    return Space(domains, base)


def _check_conditions(experiment: Experiment, domains: Mapping[str, Domain]) -> None:
    """Refuse a `when` of the section that never holds, or names no arm; a preset's may be overruled."""
    for key, domain in experiment.search.space.items():
        where = f"search.space.{key}.when"
        for asked, wanted in domain.when.items():
            varied, now = domains.get(asked), standing(experiment, asked)
            if asked == START:
                for name in wanted:
                    _start_named(experiment, name, where)
            if now in wanted or (varied is not None and any(map(varied.holds, wanted))):
                continue
            if varied is None and asked == START:  # it belongs to another choice of `search.start`
                continue
            if varied is not None and varied.finite is None:
                hint = f"it is from {varied.low:g} to {varied.high:g}"
            else:
                values = [now] if varied is None else varied.finite or ()
                hint = did_you_mean(wanted[0], [*map(str, values)], "it may be")
            raise ConfigError(f"{asked} is never {' or '.join(map(str, wanted))}", where=where, hint=hint)


def _preset(experiment: Experiment) -> dict[str, Domain]:
    """The domains of the preset that is named: of the phase and the engine of the arm that varies."""
    name, start = experiment.search.preset, default_start(experiment)
    if name is None:
        return {}
    if name == "filters":
        if start.engine in (None, HUMAN):
            raise ConfigError(
                f"the preset filters varies the labels of an engine, and {start.name} has none",
                where="search.start",
                hint="name an arm st-mt-<engine>",
            )
        return filters_space(str(start.engine))
    joint = start.arm == JOINT
    alike = [other.name for other in starts(experiment) if other.arm != "scratch" and (other.arm == JOINT) == joint]
    return phase_space(name, "joint" if joint else "finetune", experiment.value_at, alike)


def standing(experiment: Experiment, key: str) -> Any:
    """The value of a key that may vary, as it stands in the configuration."""
    return default_start(experiment).name if key == START else experiment.value_at(key)


def default_start(experiment: Experiment) -> Start:
    """The arm whose fine-tuning varies.

    Raises:
        ConfigError: it is none of the experiment's arms.
    """
    return _start_named(experiment, experiment.search.start or starts(experiment)[-1].name, "search.start")


def _start_named(experiment: Experiment, name: Any, where: str) -> Start:
    known = {start.name: start for start in starts(experiment)}
    if name not in known:
        raise ConfigError(f"{name} is none of the arms", where=where, hint=did_you_mean(name, known, "the arms here"))
    return known[name]


def apply(experiment: Experiment, assignment: Assignment) -> tuple[Experiment, Start]:
    """The experiment of a trial, and the arm that it starts from.

    Raises:
        ConfigError: the values do not fit, alone or together.
    """
    shown = ", ".join(f"{key}={value}" for key, value in assignment.items())
    where = f"search.space ({shown})"
    changes = {key: value for key, value in assignment.items() if key != START}
    start = default_start(experiment)
    if START in assignment:
        start = _start_named(experiment, assignment[START], where)
    return experiment.with_keys(changes, where), start


def known_trials(experiment: Experiment, space: Space) -> list[Assignment] | None:
    """The trials, where they do not depend on results; none for a searcher that learns.

    Raises:
        ConfigError: a grid of more trials than `search.trials`.
    """
    search = experiment.search
    if search.searcher == "optuna":
        return None
    if search.searcher == "random":
        return space.random(search.trials, search.seed)
    grid = list(itertools.islice(space.grid(), search.trials + 1))
    if len(grid) > search.trials:
        sizes = " x ".join(str(len(domain.finite or ())) for domain in space.domains.values())
        raise ConfigError(
            f"the grid has {sizes} points, search.trials allows {search.trials}",
            where="search",
            hint="raise search.trials, vary less, or take searcher random",
        )
    return grid


def check_values(experiment: Experiment, space: Space, points: Sequence[Assignment] | None) -> None:
    """Build the experiment of every trial, and of every extreme value.

    Raises:
        ConfigError: a value, or values together, that the configuration does not take.
    """
    for key, domain in space.domains.items():
        for value in domain.examples:
            pinned = {key: value}
            apply(experiment, space.draw(lambda k, d, pinned=pinned: pinned.get(k, d.examples[0])))  # type: ignore[misc]
    for point in space.random(_DRAWS, experiment.search.seed) if points is None else points:
        apply(experiment, point)


def early(assignment: Assignment) -> Assignment:
    """The part of an assignment that decides what the fine-tuning starts from."""
    return {key: value for key, value in assignment.items() if not key.startswith(LATE)}


def distinct_bases(space: Space, points: Sequence[Assignment] | None) -> list[Assignment]:
    """The early parts that trials can have, each once, that of the configuration as it stands first.

    Raises:
        ConfigError: there is no end of them, and the trials are not known beforehand.
    """
    if points is None:
        before = space.part(lambda key: not key.startswith(LATE))
        endless = [key for key, domain in before.domains.items() if domain.finite is None and not key.startswith(LATE)]
        if endless:
            raise ConfigError(
                f"{endless[0]} changes what the fine-tuning starts from, which is made before the trials, and has no "
                "end of values",
                where="search.space",
                hint="write choice: [...] or integer: [low, high] instead, or take searcher random",
            )
        points = list(before.grid())
    found = {canonical(part): part for part in ({}, *map(early, points))}
    return list(found.values())


@dataclass(frozen=True)
class Base:
    """What trials start from: the name of their stages, and the data and model of the fine-tuning."""

    name: str
    data: SpeechData


def make_bases(experiment: Experiment, parts: Iterable[Assignment]) -> tuple[dict[str, Base], str]:
    """Everything before the fine-tunings, stage by stage as the recipe makes it; and the target shards' fingerprint."""
    bases, target = {}, ""
    for part in parts:
        changed, start = apply(experiment, part)
        recipe = Recipe(changed.replace(arms=(start.arm,), seeds=changed.seeds[:1]))
        data = recipe.target_data(start, changed.seeds[0])
        bases[canonical(part)] = Base(f"asr-{recipe.target_lang}-{start.name}", data)
        target = recipe.target.fingerprint
    return bases, target


@dataclass(frozen=True)
class TrialWork:
    """Trains and scores a trial, in whichever process (`xlst_ray.cluster.tune.Work`).

    Attributes:
        bases: by canonical early part.
        target: fingerprint of the shards of the target language.
    """

    experiment: Experiment
    bases: Mapping[str, Base]
    target: str

    def updates(self, assignment: Assignment) -> int:
        x, start = apply(self.experiment, assignment)
        return x.phase_of(start.arm).train.updates

    def stage(self, assignment: Assignment) -> Stage:
        """The fine-tuning of a trial: that of the recipe's own arm where the configuration is the same."""
        x, base, speech = self.experiment, self.base(assignment), self.speech(assignment)
        return describe_training(base.name, speech, base.data, x.seeds[0], x.cluster.planned_ranks)

    def speech(self, assignment: Assignment) -> SpeechOptions:
        """All options of a trial's training."""
        x, start = apply(self.experiment, assignment)
        return x.speech(x.phase_of(start.arm))

    def folder(self, stage: Stage) -> str:
        return storage.join(self.experiment.workspace, "stages", stage.folder_name)

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        data, stage, speech = self.base(assignment).data, self.stage(assignment), self.speech(assignment)
        seed = self.experiment.seeds[0]
        model = run_stage(
            stage,
            self.folder(stage),
            lambda folder: train_speech(stage.name, speech, data, seed, folder, cluster, on_validation),
        )
        validations = storage.read_json(storage.join(model.folder, "training.json"))["validations"]
        for validation in validations if model.reused else ():
            on_validation(validation)
        scored = self.score(assignment, model, "dev", cluster)
        return {
            **{name: scored.counts[name] for name in ("wer", "cer")},
            "seconds": round(model.seconds + scored.seconds, 1),
            "training_seconds": model.counts["training_seconds"],
            "model": model.folder,
            "scored": scored.folder,
            "validation": validations[-1],
        }

    def score(self, assignment: Assignment, model: StageResult, split: Split, cluster: ClusterOptions) -> StageResult:
        """A trial's model on a split of the target language: on the test set, the stage of the recipe."""
        x, _ = apply(self.experiment, assignment)
        stage = Stage(split, x.evaluate.resolved(), {split: self.target, "model": model.fingerprint})
        base = self.base(assignment)
        source = Source(base.data.train.shards, split, states=base.data.train.states)
        return run_stage(
            stage,
            self.folder(stage),
            lambda folder: evaluate(f"{split} {base.name}", x.evaluate, model.folder, source, folder, cluster),
        )

    def base(self, assignment: Assignment) -> Base:
        """What a trial starts from."""
        return self.bases[canonical(early(assignment))]
