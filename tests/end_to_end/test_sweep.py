"""A sweep as a user runs it: killed and started again, its winner in a file that another job takes, its page."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import load
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.sweep import run_sweep
from xlst_ray.shards.files import read_shard, shard_urls
from xlst_ray.stages.prepare import PrepareOptions, prepare
from xlst_ray.stages.stage import StageResult, finished
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

# What is made before the trials needs no Ray here, which starts slowly; the trials run on Ray Tune in any case.
BEFORE_TRIALS = {"workers": 0, "decoders": 0, "translators": 0, "worker_threads": 1}

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
    config = tiny(folder, arms=["scratch", "direct"], search=SEARCH, cluster=BEFORE_TRIALS)
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
    config = tiny(tmp_path, arms=["joint"], engines={}, search=search, cluster=BEFORE_TRIALS)
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


def noisy_labels(folder: Path, source: dict[str, Any]) -> Path:
    """A phrasebook of the corpus' own translations, every third of which is the source sentence itself."""
    prepare(PrepareOptions.model_validate(source), str(folder), ClusterOptions(workers=0))
    urls = [url for split in ("train", "dev", "test") for url in shard_urls(str(folder), split)]
    rows = [row for url in urls for row in read_shard(url, ["text", "translations"]).to_pylist()]
    said = [(row["text"], dict(row["translations"])["fi"] if at % 3 else row["text"]) for at, row in enumerate(rows)]
    table = folder / "noisy.tsv"
    table.write_text("\n".join("\t".join(pair) for pair in [("en", "fi"), *said]) + "\n")
    return table


def starts_of(experiment: Experiment) -> list[tuple[dict[str, Any], StageResult]]:
    """Of every trial its values, and the stage of the model that it started from."""
    stages = [finished(str(path.parent)) for path in Path(experiment.workspace).glob("stages/*/manifest.json")]
    by_fingerprint = {stage.fingerprint: stage for stage in stages}
    found = []
    for record in results(experiment)["records"]:
        assert record["state"] == "finished"
        manifest = json.loads(Path(record["outcome"]["model"], "manifest.json").read_text())
        found.append((record["assignment"], by_fingerprint[manifest["inputs"]["init"]]))
    return found


def test_filters_are_swept_over_labels_that_were_made_once(tiny: Tiny, tmp_path: Path, ray_cluster: None) -> None:
    """Each trial starts from an ST model of its own labels: as many as its share and its thresholds leave."""
    config = tiny(tmp_path / "work", arms=["st-mt"], cluster=BEFORE_TRIALS)
    table = noisy_labels(tmp_path / "labels", config["source"])
    engine = {"labels": {"engine": {"engine": "phrasebook", "table": str(table)}, "buckets": 2}}
    search = {"preset": "filters", "trials": 4, "stop": "none", "seed": 3}
    experiment = Experiment.model_validate({**config, "engines": {"noisy": engine}, "search": search})
    run_sweep(experiment)
    assert sum(name.startswith("labels-") for name in stages_of(tmp_path / "work")) == 1
    standing, *trials = starts_of(experiment)
    utterances = config["source"]["corpus"]["demo"]["source_train"]
    assert standing[1].counts["kept"] == utterances
    assert {values["engines.noisy.scores"] for values, _ in trials} == {False, True}
    for values, start in trials:
        refused = sum(number for reason, number in start.counts.items() if reason.startswith("label refused"))
        assert refused >= utterances // 3 if values["engines.noisy.scores"] else refused == 0
        assert ("not drawn" in start.counts) == (values["engines.noisy.share"] < 1)
    assert len({(start.counts["kept"], start.fingerprint) for _, start in trials}) == len(trials)


def test_each_number_of_st_updates_is_a_training_of_its_own(tiny: Tiny, tmp_path: Path, ray_cluster: None) -> None:
    """Which step of ST to start from: the learning rate of each runs to its end, as that of a training by hand does."""
    search = {"searcher": "grid", "stop": "none", "trials": 2, "space": {"st.train.updates": {"choice": [3, 6]}}}
    config = tiny(tmp_path, arms=["st-human"], engines={}, search=search, cluster=BEFORE_TRIALS)
    experiment = Experiment.model_validate(config)
    run_sweep(experiment)
    trials = [(values.get("st.train.updates", 6), start.counts["updates"]) for values, start in starts_of(experiment)]
    assert trials == [(6, 6), (3, 3), (6, 6)]
    assert sum(name.startswith("st-human-") for name in stages_of(tmp_path)) == 2


def test_each_size_of_the_vocabulary_has_models_of_its_own(tiny: Tiny, tmp_path: Path, ray_cluster: None) -> None:
    search = {"searcher": "grid", "stop": "none", "trials": 2, "space": {"vocabulary.size": {"choice": [60, 80]}}}
    config = tiny(tmp_path, arms=["scratch"], engines={}, search=search, cluster=BEFORE_TRIALS)
    experiment = Experiment.model_validate(config)
    run_sweep(experiment)
    sizes = {}
    for record in results(experiment)["records"]:
        assert record["state"] == "finished"
        description = json.loads(Path(record["outcome"]["model"], "model.json").read_text())
        sizes[record["assignment"].get("vocabulary.size")] = description["vocabulary_size"]
    assert sizes == {None: 120, 60: 60, 80: 80}


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
