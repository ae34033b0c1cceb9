"""What goes wrong while training under Ray: errors that no further try mends, SIGTERM, nodes that see no folder."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.train import run_training
from xlst_ray.errors import DataError, Stopped, TrainingError
from xlst_ray.train.checkpoint import list_checkpoints

sys.path.insert(0, str(Path(__file__).parent))
import numbers_job
from numbers_job import Job, options

ray.cloudpickle.register_pickle_by_value(numbers_job)  # workers do not have this folder on their path


def test_an_error_of_the_data_ends_training_at_the_first_try(ray_cluster: None, tmp_path: Path) -> None:
    """Ray would start the workers again `max_failures` times, to meet the same row."""

    def at(number: int) -> None:
        with (tmp_path / "tries").open("a") as file:
            file.write("x" if number == 0 else "")
        if number == 3:
            raise DataError("is damaged", where="shard-00007.parquet, row 3", hint="make it again")

    with pytest.raises(DataError, match=r"shard-00007.parquet, row 3: is damaged") as raised:
        run_training(Job(options(), at), str(tmp_path / "out"), ClusterOptions(worker_cpus=0.5, max_failures=3))
    assert type(raised.value) is DataError
    assert raised.value.hint == "make it again"
    assert (tmp_path / "tries").read_text() == "x"


def test_a_lost_worker_is_replaced_and_training_goes_on(ray_cluster: None, tmp_path: Path) -> None:
    def at(number: int) -> None:
        if number == 8 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    trained = run_training(Job(options(), at), str(tmp_path / "lost"), ClusterOptions(worker_cpus=0.5))
    assert (tmp_path / "died").exists()
    expected = run_training(Job(options()), str(tmp_path / "plain"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
    assert [entry["update"] for entry in trained.state.validations] == [6, 12]


@pytest.mark.parametrize(
    ("workers", "asked"),
    [
        (0, signal.SIGTERM),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.cluster),
        pytest.param(1, signal.SIGINT, marks=pytest.mark.cluster),
    ],
)
def test_a_signal_saves_first_and_the_next_call_goes_on_to_the_same_weights(
    workers: int, asked: signal.Signals, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In this process, and under Ray, where the workers look at a flag now and then."""
    if workers:
        request.getfixturevalue("ray_cluster")
    driver, schedule = os.getpid(), options(updates=400, validate_every=400)
    done = tmp_path / "terminated"

    def at(number: int) -> None:
        if number == 3 and not done.exists():
            done.touch()
            os.kill(driver, asked)
        if workers and done.exists():
            time.sleep(0.05)  # until the driver has heard of the signal, and the workers of the driver

    cluster = ClusterOptions(workers=workers, worker_cpus=0.5)
    folder = tmp_path / "out"
    with pytest.raises(Stopped):
        run_training(Job(schedule, at), str(folder), cluster)
    saved = list_checkpoints(folder / "checkpoints")
    assert len(saved) == 1
    assert not saved[0].name.endswith("0000400"), "it went on to the next validation"
    trained = run_training(Job(schedule), str(folder), cluster)
    expected = run_training(Job(schedule), str(tmp_path / "plain"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
    assert trained.state.validations == expected.state.validations
    assert not saved[0].exists(), "a checkpoint without a validation has no part in the average, and goes"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_training_at_once_and_the_next_call_goes_on(
    workers: int, small_disk: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if workers:
        request.getfixturevalue("ray_cluster")

    def fill(number: int) -> None:
        with (tmp_path / "batches").open("a") as file:
            file.write(f"{number}\n")
        if number == 8:
            with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))

    cluster, folder = ClusterOptions(workers=workers, worker_cpus=0.5, max_failures=3), str(small_disk / "out")
    with pytest.raises(TrainingError, match="no space is left") as raised:
        run_training(Job(options(), fill), folder, cluster)
    assert raised.value.hint is not None
    assert (tmp_path / "batches").read_text().split().count("8") == 1, "it was not tried again"
    (small_disk / "filler").unlink()
    trained = run_training(Job(options()), folder, cluster)
    expected = run_training(Job(options()), str(tmp_path / "plain"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
    assert trained.state.validations == expected.state.validations


def test_who_asks_for_validations_hears_of_those_before_an_interruption_too(tmp_path: Path) -> None:
    """A sweep that is killed may not have written down the last one."""

    def interrupt(number: int) -> None:
        if number == 8:
            raise KeyboardInterrupt

    here, heard = ClusterOptions(workers=0), list[float]()
    with pytest.raises(KeyboardInterrupt):
        run_training(Job(options(), interrupt), str(tmp_path), here)
    run_training(Job(options()), str(tmp_path), here, lambda validation: heard.append(validation["update"]))
    assert heard == [6, 12]
