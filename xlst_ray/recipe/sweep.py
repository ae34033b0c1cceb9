"""A sweep from its configuration to the best one: check, make what is shared, run trials, score the winner once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from xlst_ray import storage
from xlst_ray.batches.index import Source
from xlst_ray.cluster.tune import Sweep, run_trials
from xlst_ray.errors import ConfigError
from xlst_ray.progress import say
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.results import render
from xlst_ray.recipe.trials import (
    TrialWork,
    check_values,
    default_start,
    distinct_bases,
    known_trials,
    make_bases,
    search_space,
    standing,
)
from xlst_ray.report.sweep import headline, render_sweep, trial_table
from xlst_ray.score.errors import ErrorCounts, word_errors
from xlst_ray.score.selection import correct_selection
from xlst_ray.score.significance import paired_p_value
from xlst_ray.stages.evaluate import HYPOTHESES
from xlst_ray.stages.speech_data import SourceOptions
from xlst_ray.stages.stage import WORKING, Stage, StageResult, finished, run_stage
from xlst_ray.sweep.journal import DEFAULT, Journal, Record
from xlst_ray.sweep.results import SweepResults, TestScore, cost, ranked
from xlst_ray.sweep.space import Assignment, Space, canonical

TRIALS = "trials"  # folder of the journal


@dataclass(frozen=True)
class Plan:
    """A sweep that was checked: its space, and its trials where they are known."""

    experiment: Experiment
    space: Space
    points: Sequence[Assignment] | None
    bases: Sequence[Assignment]
    grace: int


def run_sweep(experiment: Experiment) -> str:
    """Run what is missing of a sweep, write its results, and return what to print."""
    plan = plan_sweep(experiment)
    trials = experiment.search.trials if plan.points is None else len(plan.points)
    say(f"{trials} trials of {', '.join(plan.space.domains)}; they start from {len(plan.bases)} shared model(s)")
    bases, target = make_bases(experiment, plan.bases)
    work = TrialWork(experiment, bases, target)
    stage = _describe(plan, work)
    result = run_stage(stage, work.folder(stage), lambda folder: _run(plan, work, folder))
    journal = Journal(storage.join(result.folder, TRIALS))
    return _report(plan, work, list(journal.read().values()))


def plan_sweep(experiment: Experiment) -> Plan:
    """Everything that can be wrong with a search section is said here, before any work.

    Raises:
        ConfigError: see `xlst_ray.recipe.trials`.
    """
    space = search_space(experiment)
    points = known_trials(experiment, space)
    check_values(experiment, space, points)
    search, phase = experiment.search, experiment.phase_of(default_start(experiment).arm)
    schedule = phase.train
    grace = search.grace or schedule.validate_every
    if search.stop != "none" and grace >= schedule.updates:
        raise ConfigError(
            f"every trial may train {grace} updates, and has {schedule.updates}: none would be stopped",
            where="search.grace",
            hint="set a smaller search.grace or train.validate_every, or search.stop=none",
        )
    return Plan(experiment, space, points, distinct_bases(space, points), grace)


def _describe(plan: Plan, work: TrialWork) -> Stage:
    """The sweep as a stage: its search section, and all that its trials have in common."""
    search = plan.experiment.search
    domains = {key: domain.resolved() for key, domain in plan.space.domains.items()}
    config = {**search.model_dump(mode="json", exclude={"preset", "concurrent", "start"}), "space": domains}
    common = {f"base-{number}": work.stage(part).fingerprint for number, part in enumerate(plan.bases)}
    evaluated = {"evaluate": plan.experiment.evaluate.resolved()}
    return Stage("sweep", {**config, **evaluated, "grace": plan.grace}, common)


def _run(plan: Plan, work: TrialWork, folder: str) -> dict[str, Any]:
    experiment, journal = plan.experiment, Journal(storage.join(folder, TRIALS))
    cluster = experiment.cluster
    if canonical({}) not in journal.read():
        say("the configuration as it stands: trained to its end, for comparison")
        journal.write(_as_it_stands(work))
    sweep = Sweep(
        work=work,
        space=plan.space,
        # As it stands it is trained to its end in any case: early stopping hears of it before all others.
        points=None if plan.points is None else [{}, *filter(None, plan.points)],
        longest=max(work.updates(point) for point in ({}, *(plan.points or ()))),
        grace=plan.grace,
        in_process=storage.is_local(experiment.workspace) and not cluster.by_role,
    )
    keys = list(plan.space.domains)
    records = run_trials(
        sweep, experiment.search, journal, cluster, lambda found: say(render(trial_table(list(found.values()), keys)))
    )
    for record in records.values():
        if record.state in ("stopped", "failed"):
            for working in WORKING:  # nobody goes on from there
                storage.delete(storage.join(work.folder(work.stage(record.assignment)), working))
    spent, states = cost(list(records.values())), [record.state for record in records.values()]
    counts: dict[str, int] = {state: states.count(state) for state in dict.fromkeys(states)}
    return {**counts, "updates": spent.updates, "updates_without_stopping": spent.whole, "trial_seconds": spent.seconds}


def _as_it_stands(work: TrialWork) -> Record:
    outcome = work({}, work.experiment.cluster, lambda _: None)
    validations = tuple(storage.read_json(storage.join(outcome["model"], "training.json"))["validations"])
    return Record(DEFAULT, {}, work.updates({}), "finished", validations, outcome["seconds"], outcome)


def _report(plan: Plan, work: TrialWork, records: Sequence[Record]) -> str:
    experiment = plan.experiment
    results = _results(plan, work, records)
    best = next(record for record in records if record.number == results.best)
    folder = storage.join(experiment.workspace, "runs", experiment.name)
    text = best_config(work, best, storage.join(folder, "best-model"))
    storage.write_bytes(storage.join(folder, "best.yaml"), text.encode())
    storage.write_json(storage.join(folder, "sweep.json"), results.to_json())
    storage.write_bytes(storage.join(folder, "sweep.html"), render_sweep(results, text).encode())
    table = render(trial_table(records, list(plan.space.domains)))
    return f"{table}\n{headline(results)}\n{folder}/best.yaml\n{folder}/sweep.json\n{folder}/sweep.html"


def _results(plan: Plan, work: TrialWork, records: Sequence[Record]) -> SweepResults:
    """The winner by development WER; it and the configuration as it stands see the test set, once each."""
    experiment = plan.experiment
    best = ranked(records)[0]
    compared = {record.number: record for record in records if record.number in (DEFAULT, best.number)}
    scored = {number: _test(work, record) for number, record in compared.items()}
    errors = {number: _errors(experiment, result.folder) for number, result in scored.items()}
    options, p = experiment.evaluate.score, None
    if best.number != DEFAULT:
        p = paired_p_value(errors[best.number][0], errors[DEFAULT][0], errors[DEFAULT][1], options)
    dev = [_errors(experiment, record.outcome["scored"]) for record in records if record.state == "finished"]
    return SweepResults(
        name=experiment.name,
        source=experiment.source.corpus.lang,
        target=experiment.target.corpus.lang,
        start=default_start(experiment).name,
        records=tuple(records),
        standing={key: standing(experiment, key) for key in plan.space.domains},
        objectives=experiment.search.objectives,
        best=best.number,
        tests={number: _test_score(result.counts) for number, result in scored.items()},
        p=p,
        selection=correct_selection([counts for counts, _ in dev], dev[0][1], options),
        rule=str(scored[DEFAULT].counts["rule"]),
        confidence=options.confidence,
    )


def _test(work: TrialWork, record: Record) -> StageResult:
    say(f"test set: trial {record.number}")
    model = finished(record.outcome["model"], "lang")
    return work.score(record.assignment, model, "test", work.experiment.cluster)


def _test_score(counts: Mapping[str, Any]) -> TestScore:
    low, high = counts["wer_interval"]
    return TestScore(counts["wer"], (low, high), counts["cer"])


def _errors(experiment: Experiment, folder: str) -> tuple[list[ErrorCounts], list[str]]:
    """Errors and block of each utterance of a scored split."""
    table = storage.read_table(storage.join(folder, HYPOTHESES))
    references, hypotheses = table["reference"].to_pylist(), table["hypothesis"].to_pylist()
    return word_errors(references, hypotheses, experiment.target.corpus.lang), table["group"].to_pylist()


def best_config(work: TrialWork, record: Record, out: str) -> str:
    """A trial as the configuration of `jobs/train.py`, in YAML."""
    x, data = work.experiment, work.base(record.assignment).data
    values = {
        "shards": data.train.shards,
        "states": data.train.states,
        "init": data.init,
        "vocabulary": data.vocabulary,
        "held_out": data.train.held_out,
        "sources": {name: _source(source) for name, (source, _) in data.further.items()},
        "out": out,
        "seed": x.seeds[0],
        **work.speech(record.assignment).resolved(),
        "cluster": x.cluster.resolved(),
    }
    head = (
        f"# Trial {record.number} of the sweep {x.name}: development WER {record.wer:.2f} %\n# jobs/train.py --config\n"
    )
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _source(source: Source) -> dict[str, Any]:
    """Further training data as `jobs/train.py` takes it."""
    values = {name: getattr(source, name) for name in SourceOptions.model_fields}
    return SourceOptions.model_validate(values).resolved()
