"""Optuna's tree-structured Parzen estimator as a searcher of Ray Tune, over spaces whose keys depend on one another.

Ray's own `OptunaSearch` asks for a figure of every objective in every report; ours come with the last one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ray.tune.search import Searcher

from xlst_ray.errors import ConfigError
from xlst_ray.sweep.options import Domain, SearchOptions
from xlst_ray.sweep.space import Assignment, Space, canonical, rounded

try:
    import optuna
except ImportError:
    raise ConfigError(
        "Optuna is not installed", where="search.searcher=optuna", hint="pip install -e '.[optuna]'"
    ) from None

_TRIES: Final = 100  # at a configuration that was not tried yet, before the space is taken to have no further one


class OptunaSearcher(Searcher):  # type: ignore[misc]  # Ray is untyped here
    """Suggests assignments, never one twice.

    A trial that was stopped counts as pruned: TPE ranks it behind all that came to their end, by how far it came and
    its token error then (Bergstra et al. 2011; Optuna's `TPESampler`).

    Args:
        known: assignments of the journal, which come first.
    """

    def __init__(self, space: Space, search: SearchOptions, known: Sequence[Assignment]) -> None:
        super().__init__()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._objectives = space, search.objectives
        self.study = optuna.create_study(
            directions=["minimize"] * len(search.objectives), sampler=optuna.samplers.TPESampler(seed=search.seed)
        )
        self._asked: dict[str, optuna.Trial] = {}
        self._seen: set[str] = set()
        for assignment in known:
            self.study.enqueue_trial({key: _outward(value, space.domains[key]) for key, value in assignment.items()})

    def suggest(self, trial_id: str) -> dict[str, str] | str:
        for _ in range(_TRIES):
            asked = self.study.ask()
            text = canonical(self._space.draw(partial(_suggest, asked)))
            if text not in self._seen:
                self._seen.add(text)
                self._asked[trial_id] = asked
                return {"assignment": text}
            self.study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if len(self._objectives) == 1 and "accuracy" in result:
            self._asked[trial_id].report(100 * (1 - result["accuracy"]), int(result["update"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        asked, states = self._asked.pop(trial_id), optuna.trial.TrialState
        if result is not None and "outcome" in result:
            figures = {"wer": result["outcome"]["wer"], "seconds": result["outcome"]["training_seconds"]}
            self.study.tell(asked, [figures[name] for name in self._objectives])
        else:
            failed = error or result is None or "failure" in result
            self.study.tell(asked, state=states.FAIL if failed else states.PRUNED)


def _suggest(trial: "optuna.Trial", key: str, domain: Domain) -> Any:
    if domain.choice is not None:  # by place: Optuna takes no lists and mappings as values
        return domain.choice[trial.suggest_categorical(key, list(range(len(domain.choice))))]
    if domain.finite is not None:
        return trial.suggest_int(key, domain.finite[0], domain.finite[-1], step=domain.step or 1)
    return rounded(trial.suggest_float(key, domain.low, domain.high, log=domain.log_uniform is not None), domain)


def _outward(value: Any, domain: Domain) -> Any:
    """A value as Optuna knows it."""
    return domain.choice.index(value) if domain.choice is not None else value
