"""SIGTERM or Ctrl-C while training: a checkpoint of the update at hand; the next call goes on to the same weights."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.stop import signals_kept, stop_calls
from xlst_ray.cluster.train import run_training
from xlst_ray.errors import Stopped
from xlst_ray.train.checkpoint import list_checkpoints

sys.path.insert(0, str(Path(__file__).parent))
from numbers_job import Job, options

HERE = ClusterOptions(workers=0)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_training_saves_first_and_goes_on_to_the_same_weights(tmp_path: Path, asked: signal.Signals) -> None:
    schedule, folder, told = options(updates=40, validate_every=20), str(tmp_path / "out"), list[Mapping[str, float]]()

    def at(number: int) -> None:
        if number == 3:
            os.kill(os.getpid(), asked)

    before = signal.getsignal(asked)
    with pytest.raises(Stopped):
        run_training(Job(schedule, at), folder, HERE, told.append)
    assert signal.getsignal(asked) is before
    (saved,) = list_checkpoints(tmp_path / "out" / "checkpoints")
    assert saved.name == "update-0000004"
    assert told == [], "it was not validated"
    trained = run_training(Job(schedule), folder, HERE, told.append)
    expected = run_training(Job(schedule), str(tmp_path / "undisturbed"), HERE)
    assert trained.weights == expected.weights
    assert trained.state.validations == expected.state.validations
    assert [entry["update"] for entry in told] == [20, 40]
    assert not saved.exists(), "a checkpoint without a validation has no part in the average, and goes"


def test_in_the_background_of_a_script_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_calls(pytest.fail):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_stays_where_ray_sets_its_own() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with signals_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with signals_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "where there was none, Ray's is better than none"
    finally:
        signal.signal(signal.SIGTERM, before)
