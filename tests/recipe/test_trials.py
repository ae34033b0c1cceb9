"""A search section against the configuration: every value is checked before any work, with the next step."""

from collections.abc import Mapping
from typing import Any

import pytest

from xlst_ray.config import load
from xlst_ray.errors import ConfigError
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.sweep import Plan, plan_sweep
from xlst_ray.recipe.trials import apply

CONFIG: dict[str, Any] = {
    "name": "sweep",
    "source": {"corpus": {"reader": "demo", "lang": "en"}},
    "target": {"corpus": {"reader": "demo", "lang": "fi"}},
    "arms": ["scratch", "direct", "st-mt"],
    "engines": {"lm": {"scores": True, "mt": {"pairs": {"grammar": {"kind": "demo"}}}}},
    "finetune": {"train": {"updates": 100, "warmup": 10, "validate_every": 20, "lr": 1e-3}},
}
LR = {"finetune.train.lr": {"log_uniform": [1e-4, 1e-2]}}


def plan(search: Mapping[str, Any]) -> Plan:
    return plan_sweep(Experiment.model_validate({**CONFIG, "search": search}))


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({}, r"nothing is to vary"),
        (
            {"space": {"finetune.train.lrr": {"choice": [1]}}},
            r"unknown key finetune.train.lrr\n.*mean finetune.train.lr\?",
        ),
        ({"space": {"lr": {"choice": [1]}}}, r"unknown key lr\n"),
        ({"space": {"finetune.train.lr": {"choice": ["fast"]}}}, r"\(finetune.train.lr=fast\): .*valid number"),
        ({"space": {"finetune.dropout": {"uniform": [0, 1.5]}}}, r"finetune.dropout: .*less than 1 \(given 1.5\)"),
        (
            {"space": {"finetune.train.updates": {"integer": [15, 200]}}},
            r"validate_every \(20\) is longer than updates",
        ),
        ({"space": {"start": {"choice": ["direct", "st-mt-ml"]}}}, r"st-mt-ml is none of the arms\n.*mean st-mt-lm\?"),
        ({"space": LR, "start": "st-mt"}, r"search.start: st-mt is none of the arms"),
        ({"space": {"target.corpus.lang": {"choice": ["et"]}}}, r"target.corpus.lang may not vary"),
        ({"space": {"cluster.workers": {"choice": [1, 2]}}}, r"cluster.workers may not vary"),
        ({"space": {"vocabulary.size": {"choice": [50, 60]}}}, r"changes what a token is.*\n.*search.stop=none"),
        ({"space": {**LR, "finetune.dropout": {"choice": [0.1], "when": {"stat": [1]}}}}, r"unknown key stat\n"),
        (
            {"space": {"finetune.dropout": {"choice": [0.1], "when": {"start": ["drect"]}}}},
            r"when: drect is none of the arms\n  -> did you mean direct\?",
        ),
        (
            {
                "space": {
                    "finetune.dropout": {"choice": [0.1], "when": {"start": ["st-mt-ml"]}},
                    "start": {"choice": ["direct", "st-mt-lm"]},
                }
            },
            r"search.space.finetune.dropout.when: st-mt-ml is none of the arms\n  -> did you mean st-mt-lm\?",
        ),
        (
            {"space": {**LR, "finetune.dropout": {"choice": [0.1], "when": {"finetune.train.lr": [0.1]}}}},
            r"when: finetune.train.lr is never 0.1\n  -> it is from 0.0001 to 0.01",
        ),
        (
            {"space": {**LR, "finetune.dropout": {"choice": [0.1], "when": {"finetune.train.lr": ["fast"]}}}},
            r"when: finetune.train.lr is never fast\n",
        ),
        (
            {"space": {"finetune.dropout": {"choice": [0.1], "when": {"model.size": ["huge"]}}}},
            r"search.space.finetune.dropout.when: model.size is never huge\n  -> it may be",
        ),
        ({"space": LR, "searcher": "grid"}, r"finetune.train.lr has no end of values"),
        ({"space": {"seed.x": {"choice": [1]}}}, r"unknown key seed\n.*mean seeds"),
        ({"space": LR, "grace": 100}, r"every trial may train 100 updates, and has 100"),
        (
            {
                "searcher": "grid",
                "trials": 5,
                "space": {
                    "finetune.dropout": {"choice": [0, 0.1]},
                    "finetune.train.lr": {"choice": [1e-4, 1e-3, 1e-2]},
                },
            },
            r"the grid has 2 x 3 points, search.trials allows 5",
        ),
        (
            {"searcher": "optuna", "space": {"st.train.lr": {"log_uniform": [1e-4, 1e-2]}}},
            r"st.train.lr changes what the fine-tuning starts from, .* has no end of values",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(search: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan(search)


def test_misspelt_keys_of_the_section_itself_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key search.sercher\n  -> did you mean search.searcher\?"):
        load(Experiment, None, ["search.sercher=grid"])


def test_what_trials_share_is_made_once_each() -> None:
    """Fine-tunings of two learning rates from two arms, one of them with two ST schedules: three shared models."""
    found = plan(
        {
            "searcher": "grid",
            "trials": 20,
            "start": "st-mt-lm",
            "space": {
                "finetune.train.lr": {"choice": [1e-3, 2e-3]},
                "start": {"choice": ["direct", "st-mt-lm"]},
                "st.train.updates": {"choice": [60000, 70000], "when": {"start": ["st-mt-lm"]}},
            },
        }
    )
    assert found.points is not None
    assert len(found.points) == 6
    without_repeats = [part for part in found.bases if part]
    assert without_repeats == [
        {"start": "direct"},
        {"start": "st-mt-lm", "st.train.updates": 60000},
        {"start": "st-mt-lm", "st.train.updates": 70000},
    ]


def test_a_condition_may_ask_for_an_arm_that_is_not_varied_and_for_a_value_as_it_stands() -> None:
    """The one belongs to another choice of `search.start`; the other is what a key is whose own condition fails."""
    held = {"choice": [0.1], "when": {"start": ["scratch"], "st.dropout": [None, 0.2]}}
    search = {"space": {**LR, "finetune.dropout": held, "st.dropout": {"choice": [0.2], "when": {"start": ["direct"]}}}}
    assert plan(search).space.domains["finetune.dropout"].when["start"] == ("scratch",)
    search["space"]["start"] = {"choice": ["direct", "st-mt-lm"]}
    search["space"]["finetune.dropout"] = {"choice": [0.1], "when": {"start": ["direct", "scratch"]}}
    assert plan(search).space.domains["finetune.dropout"].when["start"] == ("direct", "scratch"), "one of them can be"


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("finetune.transfer.modules", ["all", "encoder"]),
        ("finetune.transfer.exclude", [[], ["decoder.output.*"]]),
        ("finetune.transfer.freeze.encoder.*", [0, 50]),
        ("finetune.train.lr", [1e-4, 1e-3]),
        ("finetune.train.lr_scale.encoder.*", [0.1, 1.0]),
        ("finetune.train.warmup", [10, 20]),
        ("finetune.train.ctc_weight", [0.1, 0.3]),
        ("finetune.augment.policy", ["none", "lb"]),
        ("finetune.dropout", [0.0, 0.1]),
        ("vocabulary.size", [50, 100]),
        ("start", ["direct", "st-mt-lm", "joint-lm"]),
        ("st.train.updates", [20000, 60000]),
        ("engines.lm.share", [0.1, 1.0]),
        ("engines.lm.scores", [False, True]),
        ("engines.lm.keep.language", [0.02, 0.5]),
        ("engines.lm.weight", [0.5, 2.0]),
        ("joint.batch.temperature", [1.0, 3.0]),
    ],
)
def test_what_a_transfer_is_made_of_may_vary(key: str, values: list[Any]) -> None:
    config = {**CONFIG, "arms": [*CONFIG["arms"], "joint"]}
    search = {"stop": "none", "searcher": "grid", "space": {key: {"choice": values}}}
    experiment = Experiment.model_validate({**config, "search": search})
    found = plan_sweep(experiment)
    assert found.points == [{key: value} for value in values]
    if key != "start":
        assert [apply(experiment, point)[0].value_at(key) for point in found.points] == values


def test_a_sweep_of_the_joint_arm_varies_the_joint_phase() -> None:
    config = {**CONFIG, "arms": ["direct", "joint"], "joint": {"train": {"updates": 80, "warmup": 1, "lr": 1e-4}}}
    config["joint"]["train"]["validate_every"] = 40
    found = plan_sweep(Experiment.model_validate({**config, "search": {"preset": "transfer", "trials": 3}}))
    assert found.grace == 40
    assert {key.split(".")[0] for key in found.space.domains} == {"joint"}
    assert found.space.domains["joint.train.warmup"].choice == (4, 8, 26)
    assert found.space.domains["joint.batch.temperature"].choice == (1.0, 2.0, 5.0)


def test_the_preset_of_filters_varies_the_labels_of_the_engine_that_starts() -> None:
    found = plan({"preset": "filters", "trials": 12})
    assert found.points is not None
    assert len(found.bases) == 13, "each trial has an ST model of its own, and so has the configuration as it stands"
    assert {key.removeprefix("engines.lm.").split(".")[0] for key in found.space.domains} == {"share", "scores", "keep"}
    for point in found.points:
        thresholds = [key for key in point if ".keep." in key]
        assert bool(thresholds) == point["engines.lm.scores"], "thresholds count where scores do"
    own = {"lm": {**CONFIG["engines"]["lm"], "scores": False, "keep": {"script": 0.9}}}
    search = {"preset": "filters", "trials": 12}
    assert len(plan_sweep(Experiment.model_validate({**CONFIG, "engines": own, "search": search})).points or ()) == 12
    with pytest.raises(
        ConfigError, match=r"search.start: the preset filters varies the labels of an engine, and direct"
    ):
        plan({"preset": "filters", "start": "direct"})


def test_an_assignment_changes_its_keys_and_nothing_else() -> None:
    experiment = Experiment.model_validate({**CONFIG, "search": {"space": LR}})
    assignment = {"finetune.train.lr": 2e-3, "finetune.transfer.freeze.encoder.*": 50, "start": "direct"}
    changed, start = apply(experiment, assignment)
    assert start.name == "direct"
    assert changed.finetune.train == experiment.finetune.train.replace(lr=2e-3)
    assert changed.finetune.transfer.freeze == {"encoder.*": 50}
    assert changed.asr == experiment.asr
    assert apply(experiment, {})[1].name == "st-mt-lm"  # the last arm


@pytest.mark.parametrize("preset", ["quick", "transfer"])
@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_presets_fit_any_schedule(preset: str, searcher: str) -> None:
    found = plan({"preset": preset, "searcher": searcher, "trials": 10})
    low, high = found.space.domains["finetune.train.lr"].log_uniform or (0, 0)
    assert low < 1e-3 < high
    if preset == "transfer":
        assert found.space.domains["start"].choice == ("direct", "st-mt-lm")
        assert found.space.domains["finetune.transfer.freeze.encoder.*"].choice == (0, 10, 25)
    overruled = plan({"preset": preset, "space": {"finetune.dropout": {"choice": [0.3]}}})
    assert overruled.space.domains["finetune.dropout"].choice == (0.3,)
