"""The curves of a training as a run of MLflow, whose client is the extra `mlflow`."""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from xlst_ray.errors import ConfigError, Stopped
from xlst_ray.progress import say
from xlst_ray.train.board import table_of
from xlst_ray.train.task import Sample

EXPERIMENT: Final = "xlst_ray"
_KEY: Final = "xlst_ray.training"  # tag of a run
_OPTION: Final = "cluster.mlflow"


class MLflow:
    """A run in the experiment `xlst_ray`, which a training that goes on goes on with.

    A server that fails later ends neither the training nor the run: that is said once, and nothing more is logged.

    Args:
        uri: of the tracking server.
        name: of the run. key: which training it is of, to be found by.
        params: of the run, where it begins.
        start: update that training goes on from.

    Raises:
        ConfigError: MLflow is not installed, or the server cannot be written to at the beginning of a training.
    """

    def __init__(self, uri: str, name: str, key: str, params: Mapping[str, object], start: int) -> None:
        refuse_without_mlflow()
        self._run = ""
        self._lost = False
        try:
            self._begin(uri, name, key, params)
        except Exception as error:  # MLflow passes on those of whatever store it has
            if start == 0:
                hint = "is the server there, and what it needs installed? leave the option out to train without it"
                raise ConfigError(f"MLflow cannot log there ({error})", where=_OPTION, hint=hint) from error
            self._lose(error)

    def _begin(self, uri: str, name: str, key: str, params: Mapping[str, object]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag

        self._metric, self._client = Metric, MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        runs = self._client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        given = [Param(name, str(value)) for name, value in params.items()]
        self._client.log_batch(self._run, params=given, tags=[RunTag(_KEY, key)])

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        now = int(time.time() * 1000)
        self._try(
            lambda client: client.log_batch(
                self._run, metrics=[self._metric(name, value, now, update) for name, value in values.items()]
            )
        )

    def validation(self, scores: Mapping[str, float], samples: Sequence[Sample], update: int) -> None:
        self.scalars(scores, update)
        if samples:
            self._try(lambda client: client.log_text(self._run, table_of(samples), f"hypotheses/{update:07d}.md"))

    def close(self, error: BaseException | None) -> None:
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, Stopped) else "FAILED"
        self._try(lambda client: client.set_terminated(self._run, status))

    def _try(self, log: Callable[[Any], object]) -> None:
        if self._lost:
            return
        try:
            log(self._client)
        except Exception as error:  # noqa: BLE001  # a training outlives whoever looks on
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._lost = True
        say(f"MLflow: nothing more is logged there ({error})")


def refuse_without_mlflow() -> None:
    """Raise `ConfigError` where it is not installed."""
    if find_spec("mlflow") is None:  # to import it takes a second
        raise ConfigError("MLflow is not installed", where=_OPTION, hint="pip install -e '.[mlflow]'")
