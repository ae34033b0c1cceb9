"""Search spaces: values within bounds, conditions that hold, nothing twice, nothing that the seed does not decide."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from xlst_ray.errors import ConfigError
from xlst_ray.sweep.options import Domain, SearchOptions
from xlst_ray.sweep.space import Space, canonical


def domain(**values: Any) -> Domain:
    return Domain.model_validate(values)


LR = domain(log_uniform=[1e-4, 1e-2])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "exactly one of"),
        ({"choice": [1], "uniform": [0, 1]}, "given: choice, uniform"),
        ({"uniform": [1, 1]}, "must be below"),
        ({"log_uniform": [0, 1]}, "must be above 0"),
        ({"choice": [1, 2, 1]}, "twice"),
        ({"uniform": [0, 1], "step": 2}, "step is for integer"),
    ],
)
def test_a_domain_that_says_nothing_or_too_much_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        domain(**values)


@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_what_copies_weights_between_trials_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} .* copies the weights of one running trial into another"):
        SearchOptions.model_validate({"stop": name})


def test_two_objectives_need_optuna_and_whole_trials() -> None:
    both = {"objectives": ["wer", "seconds"]}
    for others in ({"searcher": "random", "stop": "none"}, {"searcher": "optuna", "stop": "asha"}):
        with pytest.raises(ValidationError):
            SearchOptions.model_validate({**both, **others})
    SearchOptions.model_validate({**both, "searcher": "optuna", "stop": "none"})


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), low=st.floats(1e-6, 1.0), factor=st.floats(1.01, 1e4))
def test_random_values_lie_in_their_range_and_are_short(seed: int, low: float, factor: float) -> None:
    space = Space({"lr": domain(log_uniform=[low, low * factor]), "n": domain(integer=[3, 20], step=5)}, {})
    for assignment in space.random(5, seed):
        assert low <= assignment["lr"] <= low * factor
        assert assignment["n"] in (3, 8, 13, 18)
        assert float(f"{assignment['lr']:.4g}") == assignment["lr"] or assignment["lr"] in (low, low * factor)


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    drawn = [math.log10(found["lr"]) for found in Space({"lr": LR}, {}).random(600, 1)]
    thirds = Counter(min(int((value + 4) / 2 * 3), 2) for value in drawn)
    assert all(abs(count - 200) < 58 for count in thirds.values())  # 5 standard deviations


def test_more_trials_begin_as_fewer_do_and_none_comes_twice() -> None:
    space = Space({"lr": LR, "x": domain(choice=[1, 2])}, {})
    assert space.random(20, 7)[:5] == space.random(5, 7)
    assert space.random(5, 7) != space.random(5, 8)
    small = Space({"x": domain(choice=[1, 2, 3])}, {})
    assert sorted(found["x"] for found in small.random(10, 1)) == [1, 2, 3]


def test_a_key_counts_only_when_its_condition_holds() -> None:
    space = Space(
        {
            "freeze": domain(choice=[10, 20], when={"modules": ["encoder"]}),
            "modules": domain(choice=["all", "encoder"], when={"start": ["direct"]}),
            "start": domain(choice=["scratch", "direct"]),
        },
        {},
    )
    expected = [
        {"start": "scratch"},
        {"start": "direct", "modules": "all"},
        {"start": "direct", "modules": "encoder", "freeze": 10},
        {"start": "direct", "modules": "encoder", "freeze": 20},
    ]
    assert sorted(map(canonical, space.grid())) == sorted(map(canonical, expected))
    assert {canonical(found) for found in space.random(50, 1)} == set(map(canonical, expected))


def test_a_condition_on_a_key_that_does_not_vary_asks_the_configuration() -> None:
    domains = {"weight": domain(choice=[0.1, 0.3], when={"model.ctc": [True]})}
    assert len(list(Space(domains, {"model.ctc": True}).grid())) == 2
    assert list(Space(domains, {"model.ctc": False}).grid()) == [{}]


def test_conditions_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="wait for each other: a, b"):
        Space({"a": domain(choice=[1], when={"b": [1]}), "b": domain(choice=[1], when={"a": [1]})}, {})


def test_the_grid_of_a_range_without_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="lr has no end of values"):
        list(Space({"lr": LR}, {}).grid())


def test_a_part_keeps_what_its_conditions_ask_about() -> None:
    domains = {"lr": LR, "start": domain(choice=[1, 2]), "st.lr": domain(choice=[3], when={"start": [2]})}
    assert set(Space(domains, {}).part(lambda key: key.startswith("st.")).domains) == {"start", "st.lr"}
