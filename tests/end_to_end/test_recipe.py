"""The recipe from corpora to the table, as a user runs it, on the debug size."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from xlst_ray.config import load
from xlst_ray.recipe.arms import outline
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.results import run_experiment
from xlst_ray.train.checkpoint import read_state

ROOT = Path(__file__).parents[2]
ALL_ARMS = ["scratch", "direct", "direct-matched", "st-human", "st-mt", "joint"]

Config = dict[str, Any]
Tiny = Callable[..., Config]


def experiment(config: Config) -> Experiment:
    return Experiment.model_validate(config)


def results_of(workspace: Path, name: str = "tiny") -> list[dict[str, Any]]:
    """The rows of `results.json` without their times, which differ from run to run."""
    arms = json.loads((workspace / "runs" / name / "results.json").read_text())["arms"]
    return [{key: value for key, value in arm.items() if key != "seconds"} for arm in arms]


def stages_of(workspace: Path) -> dict[str, int]:
    """Stage folders and when their manifest was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in workspace.glob("stages/*/manifest.json")}


@pytest.fixture(scope="module")
def finished(ray_cluster: None, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of an undisturbed run of all arms."""
    workspace = tmp_path_factory.mktemp("undisturbed")
    run_experiment(experiment(tiny(workspace, arms=ALL_ARMS)))
    return workspace


def test_every_arm_has_its_row(finished: Path) -> None:
    arms = results_of(finished)
    assert [arm["arm"] for arm in arms] == ALL_ARMS
    assert [arm["engine"] for arm in arms] == [None, None, None, None, "lm", "lm"]
    for arm in arms:
        assert arm["utterances"] == 16
        assert arm["wer_interval"][0] <= arm["wer"] <= arm["wer_interval"][1]
        assert (arm["p_vs_direct"] is None) == (arm["arm"] == "direct")
        assert (arm["p_vs_scratch"] is None) == (arm["arm"] == "scratch")


def test_relative_reduction_is_against_direct(finished: Path) -> None:
    arms = {arm["arm"]: arm for arm in results_of(finished)}
    for name in ("scratch", "st-mt"):
        expected = (arms["direct"]["wer"] - arms[name]["wer"]) / arms["direct"]["wer"]
        assert arms[name]["relative_wer_reduction"] == pytest.approx(expected)


def test_the_page_and_the_configuration_lie_beside_the_results(finished: Path) -> None:
    folder = finished / "runs" / "tiny"
    page = (folder / "report.html").read_text()
    assert "st-mt" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    resolved = json.loads((folder / "config.json").read_text())
    assert resolved["finetune"]["train"]["betas"] == [0.9, 0.98]


def test_outline_names_the_stages_that_run(
    finished: Path, tiny: Tiny, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    again = experiment(tiny(finished, arms=ALL_ARMS))
    run_experiment(again)
    printed = capsys.readouterr().out
    total = len(outline(again))
    assert f"[{total}/{total}]" in printed
    assert f"/{total}] " in printed
    assert f"[{total + 1}/" not in printed
    for title, _ in outline(again):
        assert f"] {title} was done before" in printed


def test_second_run_recomputes_nothing(finished: Path, tiny: Tiny, ray_cluster: None) -> None:
    before, rows = stages_of(finished), results_of(finished)
    run_experiment(experiment(tiny(finished, arms=ALL_ARMS)))
    assert stages_of(finished) == before
    assert results_of(finished) == rows


def test_a_changed_field_reruns_what_depends_on_it(finished: Path, tiny: Tiny, ray_cluster: None) -> None:
    before = stages_of(finished)
    config = tiny(finished, arms=["direct", "st-mt"])
    config["finetune"] = {**config["finetune"], "train": {**config["finetune"]["train"], "lr": 2e-3}}
    run_experiment(experiment({**config, "name": "changed"}))
    new = {name.rpartition("-")[0] for name in stages_of(finished).keys() - before.keys()}
    assert new == {"asr-fi-direct", "asr-fi-st-mt-lm", "test"}
    assert {name: when for name, when in stages_of(finished).items() if name in before} == before


@pytest.mark.parametrize("stage", ["asr-en", "st-lm", "asr-fi-direct"])
def test_killed_run_goes_on_to_the_same_table(
    finished: Path,
    tiny: Tiny,
    write_config: Callable[[Config, Path], Path],
    tmp_path: Path,
    stage: str,
    ray_cluster: None,
    kill_when: Callable[[Sequence[str], Callable[[], bool]], None],
) -> None:
    """Kill -9 when a stage has written its first checkpoint; the same configuration then ends in the same figures."""
    config = tiny(tmp_path / "killed", arms=["direct", "st-mt"])
    path = write_config(config, tmp_path / "experiment.yaml")
    stages = tmp_path / "killed" / "stages"
    kill_when(
        [sys.executable, str(ROOT / "jobs" / "run.py"), "--config", str(path)],
        lambda: bool(list(stages.glob(f"{stage}-*/checkpoints/update-0000003"))),
    )
    assert not list(stages.glob(f"{stage}-*/manifest.json"))
    (checkpoint,) = stages.glob(f"{stage}-*/checkpoints/update-0000003")
    earlier = read_state(checkpoint).seconds
    run_experiment(load(Experiment, path))
    (manifest,) = stages.glob(f"{stage}-*/manifest.json")
    assert json.loads(manifest.read_text())["counts"]["training_seconds"] > earlier
    undisturbed = {arm["arm"]: arm for arm in results_of(finished)}
    for arm in results_of(tmp_path / "killed"):
        expected = undisturbed[arm["arm"]]
        assert (arm["wer"], arm["cer"], arm["ctc_wer"]) == (expected["wer"], expected["cer"], expected["ctc_wer"])
