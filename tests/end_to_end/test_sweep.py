"""A sweep as a user runs it: killed and started again, its winner in a file that another job takes, its page."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from xlst_ray.config import load
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.sweep import run_sweep
from xlst_ray.stages.stage import finished
from xlst_ray.stages.train import SpeechOptions

ROOT = Path(__file__).parents[2]
SEARCH = {
    "trials": 4,
    "stop": "asha",
    "reduction": 2,
    "space": {
        "finetune.train.lr": {"log_uniform": [1e-4, 1e-2]},
        "finetune.dropout": {"choice": [0.0, 0.2]},
        "finetune.transfer.freeze.encoder.*": {"choice": [0, 3], "when": {"start": ["direct"]}},
        "start": {"choice": ["scratch", "direct"]},
    },
}

Tiny = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.cluster  # minutes: a sweep is started twice


@pytest.fixture(scope="module")
def swept(
    tiny: Tiny,
    write_config: Callable[[dict[str, Any], Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
    kill_when: Callable[[Sequence[str], Callable[[], bool]], None],
    ray_cluster: None,
) -> tuple[Experiment, dict[str, int]]:
    """A sweep that was killed -9 when its first trials had ended, and run again; stages that were done at the kill."""
    folder = tmp_path_factory.mktemp("sweep")
    schedule = {"updates": 4, "lr": 1e-3, "warmup": 1, "validate_every": 1, "average": 1, "log_every": 4}
    config = tiny(folder, arms=["scratch", "direct"], search=SEARCH, cluster={"workers": 1, "worker_threads": 1})
    config["finetune"] = {**config["finetune"], "train": schedule}
    path = write_config(config, folder / "sweep.yaml")

    def some_ended() -> bool:
        records = [json.loads(file.read_text()) for file in folder.glob("stages/sweep-*/trials/*.json")]
        return sum(record["state"] != "running" for record in records) >= 2

    kill_when([sys.executable, str(ROOT / "jobs" / "tune.py"), "--config", str(path)], some_ended)
    done = stages_of(folder)
    experiment = load(Experiment, path)
    run_sweep(experiment)
    return experiment, done


def test_the_joint_arm_is_swept_and_its_best_is_what_another_job_takes(
    tiny: Tiny, tmp_path: Path, ray_cluster: None
) -> None:
    """Mixture and shares of the learning rate, by module; with human labels, so that no MT model is trained."""
    space = {"joint.batch.temperature": {"choice": [2.0]}, "joint.train.lr_scale.encoder.*": {"choice": [0.1, 0.5]}}
    search = {"searcher": "grid", "stop": "none", "trials": 2, "space": space}
    config = tiny(tmp_path, arms=["joint"], engines={}, search=search, cluster={"workers": 1, "worker_threads": 1})
    experiment = Experiment.model_validate(config)
    run_sweep(experiment)
    found = results(experiment)
    assert {record["state"] for record in found["records"]} == {"finished"}
    folder = tmp_path / "runs" / "tiny"
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(folder / "best.yaml")]
    subprocess.run([*command, "cluster.workers=0"], check=True, stdout=subprocess.DEVNULL)
    winner = next(record for record in found["records"] if record["number"] == found["best"])
    trial, alone = finished(winner["outcome"]["model"]), finished(str(folder / "best-model"))
    assert alone.config == trial.config
    assert alone.counts["dev"] == trial.counts["dev"]
    assert alone.counts["kept"] > 24, "both languages' speech"


def stages_of(workspace: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in workspace.glob("stages/*/manifest.json")}


def results(experiment: Experiment) -> dict[str, Any]:
    return dict(json.loads(Path(experiment.workspace, "runs", experiment.name, "sweep.json").read_text()))


def test_a_killed_sweep_goes_on_and_repeats_nothing(swept: tuple[Experiment, dict[str, int]]) -> None:
    experiment, done = swept
    after = stages_of(Path(experiment.workspace))
    assert {name: when for name, when in after.items() if name in done} == done
    assert sum(name.startswith("asr-en-") for name in after) == 1  # one high-resource model, whatever the trials
    records = results(experiment)["records"]
    assert [record["number"] for record in records] == [0, 1, 2, 3, 4]
    assert {record["state"] for record in records} <= {"finished", "stopped"}
    assert len({json.dumps(record["assignment"], sort_keys=True) for record in records}) == 5
    for record in records:
        updates = [entry["update"] for entry in record["validations"]]
        assert updates == list(range(1, len(updates) + 1))
        assert (len(updates) == 4) == (record["state"] == "finished")
    assert not list(Path(experiment.workspace, "stages").glob("asr-fi-*/checkpoints"))


def test_again_nothing_runs(swept: tuple[Experiment, dict[str, int]]) -> None:
    experiment, _ = swept
    before, rows = stages_of(Path(experiment.workspace)), results(experiment)
    run_sweep(experiment)
    assert stages_of(Path(experiment.workspace)) == before
    assert results(experiment) == rows


def test_the_winner_is_the_best_of_the_development_set_and_alone_sees_the_test_set(
    swept: tuple[Experiment, dict[str, int]],
) -> None:
    experiment, _ = swept
    found = results(experiment)
    ended = {record["number"]: record["outcome"]["wer"] for record in found["records"] if record["state"] == "finished"}
    assert ended[found["best"]] == min(ended.values())
    assert set(found["tests"]) == {"0", str(found["best"])}
    tested = [name for name in stages_of(Path(experiment.workspace)) if name.startswith("test-")]
    assert len(tested) == len(found["tests"])
    assert found["selection"]["apparent"] == min(ended.values())
    assert found["selection"]["systems"] == len(ended)


def test_the_best_configuration_is_what_another_job_takes(swept: tuple[Experiment, dict[str, int]]) -> None:
    """`jobs/train.py --config best.yaml` trains what the winner was: the same options and inputs."""
    experiment, _ = swept
    folder = Path(experiment.workspace, "runs", experiment.name)
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(folder / "best.yaml")]
    subprocess.run([*command, "cluster.workers=0"], check=True, stdout=subprocess.DEVNULL)
    winner = next(r for r in results(experiment)["records"] if r["number"] == results(experiment)["best"])
    trial, alone = finished(winner["outcome"]["model"]), finished(str(folder / "best-model"))
    assert alone.config == trial.config
    assert alone.counts["dev"] == trial.counts["dev"]
    values = yaml.safe_load((folder / "best.yaml").read_text())
    SpeechOptions.model_validate({name: values[name] for name in SpeechOptions.model_fields})


def test_the_page_tells_of_every_trial_and_stands_alone(swept: tuple[Experiment, dict[str, int]]) -> None:
    experiment, _ = swept
    page = Path(experiment.workspace, "runs", experiment.name, "sweep.html").read_text()
    for title in ("winner on the test set", "selection", "Values and scores", "Importance", "Learning curves", "Cost"):
        assert title in page
    assert page.count("<svg") == 4
    assert "src=" not in page
    assert "href=" not in page.replace('xlink:href="#', "")
    for record in results(experiment)["records"]:
        assert f'<td class="text">{record["number"]}</td>' in page
