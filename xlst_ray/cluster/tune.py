"""Sweeps on Ray Tune: trials at a time, early stopping, and a journal from which a sweep that was killed goes on.

A trial's process asks for the resources of its training where it trains itself. Where Ray Train trains for it, it asks
for no CPU, so that those who wait cannot take what their workers wait for, and no more trials run than fit.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import ray
from ray import tune
from ray.train._internal.session import get_session
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import connect
from xlst_ray.cluster.train import OnValidation
from xlst_ray.errors import TrainingError, XlstError
from xlst_ray.progress import say
from xlst_ray.sweep.fit import Need, Node, choose_concurrency
from xlst_ray.sweep.journal import Journal, Record
from xlst_ray.sweep.options import SearchOptions
from xlst_ray.sweep.space import Assignment, Space, canonical

WATCHED: Final = "accuracy"  # of the development set; what early stopping compares, after as many updates
_DRIVER_MEMORY: Final = 512 * 2**20  # bytes that a trial asks for whose training runs in workers
_TUNE_WITHOUT: Final = (
    "TUNE_DISABLE_STRICT_METRIC_CHECKING",  # an outcome comes with the last report only
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",  # the journal is what is kept
    "TUNE_DISABLE_SIGINT_HANDLER",  # it would end the sweep as if it were done
)
_BRACKETS: Final = 3  # periods of grace of asynchronous HyperBand


class Work(Protocol):
    """What a trial does. Picklable."""

    def updates(self, assignment: Assignment) -> int:
        """Updates that the trial trains where nobody stops it."""
        ...

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        """Train and score; returns the `outcome` of its record. `on_validation` may end it by `SystemExit`."""
        ...


@dataclass(frozen=True)
class Sweep:
    """What is to be tried.

    Attributes:
        work: what a trial does.
        space: what varies, for a searcher that goes by results.
        points: the trials, where they are known before any result.
        longest: most updates of a trial. grace: updates before any may be stopped.
        in_process: trials train in their own process.
    """

    work: Work
    space: Space
    points: Sequence[Assignment] | None
    longest: int
    grace: int
    in_process: bool


def trial_cluster(cluster: ClusterOptions, *, in_process: bool) -> ClusterOptions:
    """What a trial's own work asks for: no further processes where it does the work of all ranks in its own."""
    alone = {"workers": 0, "min_workers": None, "ranks": cluster.planned_ranks, "decoders": 0}
    return cluster.replace(**alone) if in_process else cluster


def needs(cluster: ClusterOptions, *, in_process: bool) -> list[Need]:
    """What a trial has at a time: its process, or training workers with their loaders, and then decoders."""
    c = cluster
    train = {"CPU": c.worker_cpus + c.loader_cpus, "GPU": c.worker_gpus}
    decode = {"CPU": c.decoder_cpus, "GPU": c.decoder_gpus}
    if in_process:
        most = {kind: max(train[kind], decode[kind]) for kind in train}
        return [Need("the larger of worker_cpus + loader_cpus and decoder_cpus, and of their GPUs", 1, most)]
    found = [
        Need("decoders x decoder_cpus", max(1, c.decoders), decode, c.nodes("engine" if c.decoder_gpus else "data"))
    ]
    if not c.by_role:
        return [Need("workers x (worker_cpus + loader_cpus)", c.workers, train), *found]
    return [
        Need("workers x worker_cpus", c.workers, {"CPU": c.worker_cpus, "GPU": c.worker_gpus}, c.nodes("train")),
        Need("workers x loader_cpus", c.workers, {"CPU": c.loader_cpus}, c.nodes("data")),
        *found,
    ]


def run_trials(
    sweep: Sweep,
    search: SearchOptions,
    journal: Journal,
    cluster: ClusterOptions,
    on_change: Callable[[Mapping[str, Record]], None],
) -> dict[str, Record]:
    """Run what the journal lacks, and return all its records by canonical assignment.

    Trials that have come to an end tell Tune again what they told before, in moments, so that the scheduler and the
    searcher know as much as they did; no finished trial runs again.

    Args:
        on_change: called with all records when one began or ended.

    Raises:
        ConfigError: not one trial, or not as many as are wanted, fit on the cluster.
        TrainingError: a trial was lost for another reason than its configuration.
    """
    connect(cluster)
    book = _Book(journal, sweep.work, on_change)
    total = search.trials if sweep.points is None else len(sweep.points)
    concurrent = _concurrent(sweep, search, cluster, total)
    os.environ.update(dict.fromkeys(_TUNE_WITHOUT, "1"))
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # it misses the loggers' files
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:  # Tune's own state, which nobody reads
        param_space, algorithm = _searcher(sweep, search, list(book.records.values()))
        tuner = tune.Tuner(
            _trainable(sweep, journal, cluster),
            param_space=param_space,
            tune_config=tune.TuneConfig(
                scheduler=_scheduler(search, sweep),
                search_alg=algorithm,
                num_samples=1 if algorithm is None else total,
                max_concurrent_trials=concurrent,
                reuse_actors=sweep.in_process,  # else what a stopped trial started ends with its process
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=temporary,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=cluster.max_failures),
                callbacks=[book],
            ),
        )
        errors = tuner.fit().errors
    _refuse_lost(book.records, errors, journal)
    return book.records


def _concurrent(sweep: Sweep, search: SearchOptions, cluster: ClusterOptions, total: int) -> int:
    nodes = [Node(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]
    grows = (cluster.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    wanted = needs(cluster, in_process=sweep.in_process)
    return choose_concurrency(wanted, nodes, search.concurrent, total, grows=grows)


def _trainable(sweep: Sweep, journal: Journal, cluster: ClusterOptions) -> Any:
    """The body of a trial with what its process asks for."""
    bundle = needs(cluster, in_process=True)[0].each if sweep.in_process else {"memory": _DRIVER_MEMORY}
    body = tune.with_parameters(_trial, sweep=sweep, folder=journal.folder, cluster=cluster)
    return tune.with_resources(body, tune.PlacementGroupFactory([dict(bundle)]))


def _refuse_lost(records: Mapping[str, Record], errors: Sequence[BaseException], journal: Journal) -> None:
    """Raises `TrainingError` where a trial has not come to an end of its own or by the scheduler."""
    lost = [record.number for record in records.values() if record.state == "running"]
    if lost:
        raise TrainingError(
            f"{len(lost)} of {len(records)} trials were lost, the first by: {errors[0] if errors else 'a stop'}",
            where=journal.folder,
            hint="the same command goes on with them; trials that have ended are not run again",
        )


class _Book(tune.Callback):  # type: ignore[misc]  # Ray is untyped here
    """Writes the journal as trials begin, report and end; in the process of the sweep alone."""

    def __init__(self, journal: Journal, work: Work, on_change: Callable[[Mapping[str, Record]], None]) -> None:
        self.records = journal.read()
        self._journal, self._work, self._on_change = journal, work, on_change

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **_: Any) -> None:
        text = trial.config["assignment"]
        if text not in self.records:
            assignment = json.loads(text)
            number = 1 + max((record.number for record in self.records.values()), default=0)
            self._keep(text, Record(number, assignment, self._work.updates(assignment)))
            self._on_change(self.records)

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        text = trial.config["assignment"]
        record = self.records[text]
        if record.state == "running" and "validation" in result:
            self._keep(text, record.heard(result["validation"], result["time_this_iter_s"]))

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **_: Any) -> None:
        record, cause = self.records[trial.config["assignment"]], type(trial.get_pickled_error()).__name__
        say(f"trial {record.number} was lost after update {record.trained} ({cause}): it goes on from its checkpoint")

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **_: Any) -> None:
        text, last = trial.config["assignment"], trial.last_result
        record = self.records[text]
        if record.state != "running":
            return
        if "outcome" in last:
            record = replace(record, state="finished", outcome=last["outcome"], seconds=last["outcome"]["seconds"])
        elif "failure" in last:
            record = replace(record, state="failed", error=last["failure"])
        else:
            record = replace(record, state="stopped")
        self._keep(text, record)
        self._on_change(self.records)

    def _keep(self, text: str, record: Record) -> None:
        self.records[text] = record
        self._journal.write(record)


def _trial(config: dict[str, str], sweep: Sweep, folder: str, cluster: ClusterOptions) -> None:
    """The body of a trial: what the journal knows of it, then, unless it has ended, its work."""
    assignment = json.loads(config["assignment"])
    past = Journal(folder).read().get(canonical(assignment))
    tell = _Teller(sweep.work.updates(assignment), in_process=True)
    if past is not None:
        for validation in past.validations:
            tell(validation)
        if past.state == "finished":
            _report_outcome(past.outcome)
        elif past.state == "failed":
            tune.report(tell.failure(past.error))
        if past.state != "running":
            return
    if not sweep.in_process:
        tell = _Teller(tell.last, in_process=False, told=tell.told)
    try:
        outcome = sweep.work(assignment, trial_cluster(cluster, in_process=sweep.in_process), tell)
    except XlstError as error:
        if error.__cause__ is not None:  # lost workers: the cluster's fault, so that the trial is to be tried again
            raise
        tune.report(tell.failure(str(error)))
        return
    _report_outcome(outcome)


def _report_outcome(outcome: Mapping[str, Any]) -> None:
    tune.report({**_scores(outcome["validation"]), "outcome": dict(outcome)})


def _scores(validation: Mapping[str, float]) -> dict[str, Any]:
    return {"update": validation["update"], WATCHED: validation[WATCHED], "validation": dict(validation)}


class _Teller:
    """Tells Tune of each validation but the last one, which comes with the outcome: a trial that is trained is scored.

    In the trial's process Tune decides before training goes on. From the process that controls Ray Train's workers the
    way is Ray's queue between the two (that of `ray.tune.integration.ray_train.TuneReportCallback`).
    """

    def __init__(self, last: int, *, in_process: bool, told: float = 0.0) -> None:
        self.last, self.told = last, told
        self._queue = None if in_process else get_session()._get_or_create_inter_actor_queue()

    def __call__(self, validation: Mapping[str, float]) -> None:
        if not self.told < validation["update"] < self.last:
            return
        self.told = validation["update"]
        if self._queue is None:
            tune.report(_scores(validation))
        else:
            self._queue.put(_scores(validation))

    def failure(self, reason: str) -> dict[str, Any]:
        """The report of a trial that failed: with the figures that schedulers look for in every report."""
        return {"update": self.told, WATCHED: 0.0, "failure": reason}


def _scheduler(search: SearchOptions, sweep: Sweep) -> TrialScheduler:
    """Early stopping by the accuracy after as many updates."""
    watch = {"time_attr": "update", "metric": WATCHED, "mode": "max", "grace_period": sweep.grace}
    if search.stop == "none":
        return FIFOScheduler()
    if search.stop == "median":
        return MedianStoppingRule(**watch)
    brackets = _BRACKETS if search.stop == "hyperband" else 1
    return AsyncHyperBandScheduler(
        **watch, max_t=sweep.longest, reduction_factor=search.reduction, brackets=brackets, stop_last_trials=False
    )


def _searcher(sweep: Sweep, search: SearchOptions, known: Sequence[Record]) -> tuple[dict[str, Any] | None, Any]:
    """What Tune draws trials from: the list of them, or Optuna."""
    if sweep.points is not None:
        return {"assignment": tune.grid_search([canonical(point) for point in sweep.points])}, None
    from xlst_ray.cluster.optuna_search import OptunaSearcher  # here, for Optuna is an extra

    return None, OptunaSearcher(sweep.space, search, [record.assignment for record in known if record.number])
