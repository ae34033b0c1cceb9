"""Optuna as a searcher: within the space, never twice, and it learns."""

import json
from typing import Any

from ray.tune.search import Searcher

from xlst_ray.cluster.optuna_search import OptunaSearcher
from xlst_ray.sweep.options import Domain, SearchOptions
from xlst_ray.sweep.space import Space, canonical


def domain(**values: Any) -> Domain:
    return Domain.model_validate(values)


def outcome(wer: float, seconds: float = 1.0) -> dict[str, Any]:
    return {"update": 9, "accuracy": 0.5, "outcome": {"wer": wer, "training_seconds": seconds}}


def suggested(searcher: OptunaSearcher, trial: str) -> Any:
    return json.loads(searcher.suggest(trial)["assignment"])  # type: ignore[index]


def test_a_small_space_is_gone_through_once() -> None:
    space = Space(
        {
            "start": domain(choice=["scratch", "direct"]),
            "freeze": domain(choice=[[1], [2]], when={"start": ["direct"]}),
        },
        {},
    )
    searcher = OptunaSearcher(space, SearchOptions(searcher="optuna"), [])
    found = []
    for number in range(3):
        found.append(suggested(searcher, str(number)))
        searcher.on_trial_complete(str(number), outcome(10.0 + number))
    assert sorted(map(canonical, found)) == sorted(map(canonical, space.grid()))
    assert searcher.suggest("more") == Searcher.FINISHED


def test_what_the_journal_knows_comes_first_and_as_it_was() -> None:
    space = Space({"lr": domain(log_uniform=[1e-4, 1e-2]), "n": domain(integer=[0, 10], step=5)}, {})
    known = [{"lr": 0.001234, "n": 5}, {"lr": 0.0005, "n": 10}]
    searcher = OptunaSearcher(space, SearchOptions(searcher="optuna"), known)
    assert [suggested(searcher, str(number)) for number in range(2)] == known


def test_it_comes_nearer_to_the_best_than_its_first_guesses() -> None:
    """WER has its least at lr = 0.001; stopped and failed trials on the way are no hindrance."""
    space = Space({"lr": domain(log_uniform=[1e-5, 1e-1])}, {})
    searcher = OptunaSearcher(space, SearchOptions(searcher="optuna"), [])
    distances = []
    for number in range(40):
        lr = suggested(searcher, str(number))["lr"]
        distance = abs(lr - 0.001) / (lr + 0.001)
        distances.append(distance)
        searcher.on_trial_result(str(number), {"update": 3, "accuracy": 1 - distance})
        ends = {7: {"update": 3, "accuracy": 1 - distance}, 8: {"update": 0, "accuracy": 0.0, "failure": "no number"}}
        searcher.on_trial_complete(str(number), ends.get(number % 9, outcome(100 * distance)))
    assert sum(distances[-10:]) < 0.6 * sum(distances[:10])


def test_two_objectives_are_told_together() -> None:
    space = Space({"size": domain(integer=[1, 50])}, {})
    search = SearchOptions(searcher="optuna", objectives=("wer", "seconds"), stop="none")
    searcher = OptunaSearcher(space, search, [])
    for number in range(12):
        size = suggested(searcher, str(number))["size"]
        searcher.on_trial_result(str(number), {"update": 3, "accuracy": 0.5})
        searcher.on_trial_complete(str(number), outcome(100 - size, float(size)))
    told = [trial.values for trial in searcher.study.best_trials]
    assert len(told) == 12  # every size is a compromise
    assert all(sum(values) == 100 for values in told)
