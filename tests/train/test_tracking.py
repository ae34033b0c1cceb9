"""MLflow: what a training logs there, as MLflow reads it. Needs the extra, which the tests' environment has not."""

import sys
from pathlib import Path
from typing import Any

import pytest

from xlst_ray.errors import ConfigError, Stopped
from xlst_ray.train.task import Sample
from xlst_ray.train.tracking import EXPERIMENT, MLflow

CURVES = {"train/loss": 2.5, "train/lr": 0.1, "speed/data_wait": 0.0}
SAMPLES = [Sample("one", "x", "x | y")]


def test_it_is_said_where_mlflow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"cluster.mlflow: MLflow is not installed") as raised:
        MLflow("http://127.0.0.1:1", "st", "key", {}, 0)
    assert raised.value.hint == "pip install -e '.[mlflow]'"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="the extra mlflow")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps runs in a database")
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts by default
    return f"sqlite:///{tmp_path}/runs.db"


def runs(store: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


def curve(store: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    (run,) = runs(store)
    return [(point.step, point.value) for point in MlflowClient(store).get_metric_history(run.info.run_id, name)]


def test_a_run_has_curves_scores_hypotheses_and_how_it_ended(store: str) -> None:
    board = MLflow(store, "st-1", "key", {"updates": 4, "betas": (0.9, 0.98)}, 0)
    board.scalars(CURVES, 2)
    board.scalars({**CURVES, "train/loss": 1.5}, 4)
    board.validation({"dev/loss": 3.0}, SAMPLES, 4)
    (run,) = runs(store)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "st-1"
    assert run.data.params == {"updates": "4", "betas": "(0.9, 0.98)"}
    assert run.data.metrics == {**CURVES, "train/loss": 1.5, "dev/loss": 3.0}
    assert curve(store, "train/loss") == [(2, 2.5), (4, 1.5)]
    from mlflow.artifacts import load_text

    assert load_text(f"{run.info.artifact_uri}/hypotheses/0000004.md").splitlines()[2] == "| one | x | x \\| y |"
    board.close(None)
    assert [run.info.status for run in runs(store)] == ["FINISHED"]


@pytest.mark.parametrize(("error", "status"), [(Stopped(), "KILLED"), (OSError("full"), "FAILED")])
def test_a_training_that_goes_on_goes_on_with_its_run(store: str, error: BaseException, status: str) -> None:
    first = MLflow(store, "st-1", "key", {"log_every": 1}, 0)
    first.scalars(CURVES, 1)
    first.close(error)
    assert [run.info.status for run in runs(store)] == [status]
    MLflow(store, "st-2", "another", {}, 0).close(None)
    again = MLflow(store, "st-1", "key", {"log_every": 2}, 1)
    assert sorted(run.info.status for run in runs(store)) == ["FINISHED", "RUNNING"]
    again.scalars(CURVES, 2)
    again.close(None)
    (run,) = (run for run in runs(store) if run.info.run_name == "st-1")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"log_every": "1"}


@pytest.fixture
def no_server(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return "http://127.0.0.1:1"


def test_a_server_that_is_not_there_is_said_before_the_first_update(no_server: str) -> None:
    with pytest.raises(ConfigError, match="MLflow cannot log there"):
        MLflow(no_server, "st", "key", {}, 0)


def test_a_server_that_fails_later_does_not_end_a_training(no_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    board = MLflow(no_server, "st", "key", {}, 8)
    board.scalars(CURVES, 9)
    board.validation({"dev/loss": 3.0}, SAMPLES, 10)
    board.close(None)
    assert capsys.readouterr().out.count("MLflow: nothing more is logged there") == 1
