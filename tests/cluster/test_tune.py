"""Sweeps on Ray Tune: early stopping, resume from the journal, and workers that are free again."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import cloudpickle

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.tune import Sweep, Work, run_trials
from xlst_ray.errors import ConfigError
from xlst_ray.sweep.journal import Journal, Record
from xlst_ray.sweep.options import Domain, SearchOptions
from xlst_ray.sweep.space import Space

sys.path.insert(0, str(Path(__file__).parent))
import trials

cloudpickle.register_pickle_by_value(trials)  # Ray's workers do not find it

CLUSTER = ClusterOptions(workers=1, worker_cpus=0.75, loader_cpus=0.25)


def sweep(work: Work, qualities: Sequence[float], *, in_process: bool = True) -> Sweep:
    points = [{"quality": quality} for quality in qualities]
    return Sweep(work, Space({}, {}), points, longest=work.updates({}), grace=1, in_process=in_process)


def run(found: Sweep, folder: Path, search: SearchOptions, cluster: ClusterOptions = CLUSTER) -> dict[float, Record]:
    seen: list[int] = []
    records = run_trials(found, search, Journal(str(folder / "journal")), cluster, lambda now: seen.append(len(now)))
    assert Journal(str(folder / "journal")).read() == records
    return {record.assignment["quality"]: record for record in records.values()}


def test_the_worse_are_stopped_and_nothing_that_ended_runs_again(ray_cluster: None, tmp_path: Path) -> None:
    """One at a time, from good to bad: each that comes after a better one stops at the first rung."""
    search = SearchOptions(stop="asha", reduction=2, concurrent=1)
    found = sweep(trials.Curve(str(tmp_path)), [0.9, 0.8, -1.0, 0.7])
    records = run(found, tmp_path, search)
    states = {quality: (record.state, record.trained) for quality, record in records.items()}
    assert states == {0.9: ("finished", 4), 0.8: ("stopped", 1), -1.0: ("failed", 0), 0.7: ("stopped", 1)}
    assert records[0.9].wer == pytest.approx(10.0)
    assert "no number" in records[-1.0].error
    done = {path.name: path.read_text() for path in tmp_path.glob("0.*")}
    assert {name: len(text.splitlines()) for name, text in done.items()} == {"0.9": 4, "0.8": 1, "0.7": 1}

    assert run(found, tmp_path, search) == records
    assert {path.name: path.read_text() for path in tmp_path.glob("0.*")} == done

    journal = Journal(str(tmp_path / "journal"))  # as if it had been killed while the second trial ran
    killed = Record(records[0.8].number, {"quality": 0.8}, 4).heard({"update": 1.0, "accuracy": 0.8}, 1.0)
    journal.write(killed)
    again = run(found, tmp_path, search)
    assert {quality: record.state for quality, record in again.items()} == {q: s for q, (s, _) in states.items()}
    assert (tmp_path / "0.8").read_text() == done["0.8"]  # told again, it was stopped before any work


@pytest.mark.cluster  # minutes: Ray Train takes its time to start and to end workers
def test_workers_of_a_stopped_trial_are_free_again(ray_cluster: None, tmp_path: Path) -> None:
    """On two CPUs each trial's workers take both: a leak would leave the next one waiting for ever."""
    whole = ClusterOptions(workers=2, worker_cpus=0.75, loader_cpus=0.25)
    found = sweep(trials.OnWorkers(str(tmp_path)), [0.9, 0.2, 0.1], in_process=False)
    records = run(found, tmp_path, SearchOptions(stop="asha", reduction=2), whole)
    assert records[0.9].state == "finished"
    assert [records[quality].state for quality in (0.2, 0.1)] == ["stopped", "stopped"]
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0.0) < 2:
        assert time.monotonic() < deadline, "workers were not given back"
        time.sleep(0.1)  # between two looks


@pytest.mark.parametrize("stop", ["median", "hyperband"])
def test_other_early_stopping_ends_the_worse_and_not_the_best(stop: str, ray_cluster: None, tmp_path: Path) -> None:
    np.random.seed(1)  # from which Tune draws the brackets of Hyperband
    qualities = [0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1, 0.05]
    search = SearchOptions.model_validate({"stop": stop, "reduction": 2, "concurrent": 1})
    records = run(sweep(trials.Curve(str(tmp_path)), qualities), tmp_path, search)
    assert records[0.9].state == "finished"
    stopped = {quality for quality, record in records.items() if record.state == "stopped"}
    assert stopped
    assert stopped < {*qualities[1:]}, "and not all others, either"
    assert all(1 <= records[quality].trained < trials.UPDATES for quality in stopped)
    assert {record.state for record in records.values()} == {"finished", "stopped"}


def test_optuna_draws_trials_that_run_and_are_not_run_again(ray_cluster: None, tmp_path: Path) -> None:
    space = Space({"quality": Domain.model_validate({"uniform": [0.1, 0.9]})}, {})
    found = Sweep(trials.Curve(str(tmp_path)), space, None, longest=trials.UPDATES, grace=1, in_process=True)
    search = SearchOptions(searcher="optuna", stop="none", trials=5, concurrent=1)
    records = run(found, tmp_path, search)
    assert len(records) == 5
    assert all(record.wer == pytest.approx(100 * (1 - quality)) for quality, record in records.items())
    assert run(found, tmp_path, search) == records
    assert all(len((tmp_path / str(quality)).read_text().splitlines()) == trials.UPDATES for quality in records)


def test_a_trial_that_fits_nowhere_is_refused_before_any(ray_cluster: None, tmp_path: Path) -> None:
    found = sweep(trials.Curve(str(tmp_path)), [0.5])
    with pytest.raises(ConfigError, match="but the nodes have 2 CPUs"):
        run(found, tmp_path, SearchOptions(), CLUSTER.replace(worker_cpus=3.0))
    assert not (tmp_path / "0.5").exists()
