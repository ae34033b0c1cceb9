"""Training under Ray: the same batches, the same weights as in a plain process, and resume after kill -9."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.index import Index, Source, TargetText, build_index
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import Position
from xlst_ray.batches.source import PlainSource
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.snapshot import LIST
from xlst_ray.cluster.stream import RaySource
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.demo.options import DemoOptions
from xlst_ray.shards.options import ShardOptions
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare
from xlst_ray.stages.stage import run_stage

ROOT = Path(__file__).parents[2]
SIZES = DemoOptions(
    target_train=21, target_dev=5, target_test=4, target_train_speakers=2, dev_speakers=1, test_speakers=1
)
BATCH = BatchOptions(max_utterances=4, window_shards=1, max_ctc_infeasible=1.0)
SCHEDULE = ["train.updates=8", "train.warmup=2", "train.validate_every=2", "train.average=2", "train.lr=1e-3"]
TRAIN = [*SCHEDULE, "model.size=debug", "batch.max_utterances=4", "batch.max_ctc_infeasible=1", "pieces.size=60"]


@pytest.fixture(scope="module")
def shards(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = PrepareOptions(
        corpus=CorpusOptions(reader="demo", lang="fi", demo=SIZES), shards=ShardOptions(rows_per_shard=8)
    )
    folder = str(tmp_path_factory.mktemp("shards"))
    run_stage(describe_prepare(options), folder, lambda out: prepare(options, out, ClusterOptions()))
    return Path(folder)


def command(shards: Path, out: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / "train.py"), f"shards={shards}", f"out={out}", *TRAIN, *overrides]


@pytest.mark.parametrize(
    ("world", "processes", "cpus"), [(1, [[0]], 0.5), (2, [[0], [1]], 0.5), (2, [[0, 1]], 0.5), (1, [[0]], 2.0)]
)
def test_ray_data_brings_the_plan_in_its_order(
    ray_cluster: None, shards: Path, tmp_path: Path, world: int, processes: list[list[int]], cpus: float
) -> None:
    """From a position in the middle, over the end of several epochs, on each rank; on both in one process; by loaders
    of a thread and of two."""
    text = TargetText(normalise=str.lower, encode=lambda sentence: [4 + ord(c) % 50 for c in sentence])
    index = build_index(Source(str(shards), "train"), text, BATCH)
    url = str(tmp_path / "index.parquet")
    index.save(url)
    augment = AugmentOptions(speeds=(0.9, 1.0, 1.1))
    for ranks in processes:
        loader = BatchLoader(Index.load(url), BATCH, augment=augment, seed=3)
        start = Position(epoch=1, batch=world)
        plain = PlainSource(loader, loader, ranks, world).train(start)
        source = RaySource(url, BATCH, augment, loader, seed=3, ranks=ranks, world=world, loader_cpus=cpus)
        streamed = source.train(start)
        for _ in range(12):
            (batch, position), (expected, expected_position) = next(streamed), next(plain)
            assert position == expected_position
            assert batch.ids == expected.ids
            assert (batch.features == expected.features).all()
            assert (batch.targets == expected.targets).all()
            assert (batch.frames == expected.frames).all()
        streamed.close()


def test_two_ranks_under_ray_train_one_model(shards: Path, tmp_path: Path) -> None:
    """Every update and validation happened, the loss fell, and a process alone that does the work of both agrees."""
    overrides = ["cluster.workers=2", "cluster.worker_cpus=0.5", "cluster.loader_cpus=0.5", "cluster.cpus=2"]
    subprocess.run(command(shards, tmp_path / "two", *overrides), check=True)
    validations = json.loads((tmp_path / "two" / "training.json").read_text())["validations"]
    assert [entry["update"] for entry in validations] == [2, 4, 6, 8]
    assert validations[-1]["loss"] < validations[0]["loss"]
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["config"]["ranks"] == 2
    assert not (tmp_path / "two" / "checkpoints").exists()
    curve = EventAccumulator(str(tmp_path / "two" / "tensorboard")).Reload().Scalars("dev/loss")
    assert [(event.step, event.value) for event in curve] == [
        (entry["update"], pytest.approx(entry["loss"])) for entry in validations
    ]
    subprocess.run(command(shards, tmp_path / "one", "cluster.workers=0", "cluster.ranks=2"), check=True)
    prints = [json.loads((tmp_path / name / "manifest.json").read_text())["fingerprint"] for name in ("one", "two")]
    assert prints[0] == prints[1]
    alone = json.loads((tmp_path / "one" / "training.json").read_text())["validations"]
    for scores, its_scores in zip(validations, alone, strict=True):
        assert its_scores == pytest.approx(scores, rel=1e-3)


def test_ray_trains_as_a_plain_process_does_and_goes_on_after_kill(
    shards: Path, tmp_path: Path, kill_when: Callable[[Sequence[str], Callable[[], bool]], None]
) -> None:
    """Ray Train, killed with -9 once it has a checkpoint, then run again: the plain process' weights, bit for bit."""
    subprocess.run(command(shards, tmp_path / "plain", "cluster.workers=0"), check=True)
    under_ray = command(shards, tmp_path / "ray", "cluster.workers=1", "cluster.cpus=2")
    listed = tmp_path / "ray" / "checkpoints" / LIST
    kill_when(under_ray, lambda: listed.exists() and "update-0000002" in listed.read_text())
    assert not (tmp_path / "ray" / "manifest.json").exists()
    again = subprocess.run(under_ray, check=True, capture_output=True, text=True)
    assert "goes on from update" in again.stdout
    assert again.stdout.count("train  update 8/8  on the development set: loss ") == 1
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "ray"))
    assert expected.keys() == found.keys()
    assert all(bool((expected[name] == found[name]).all()) for name in expected)
    histories = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("plain", "ray")]
    assert histories[0] == histories[1]


@pytest.mark.cluster
def test_the_largest_batches_and_float16_on_two_processes_are_those_of_one(shards: Path, tmp_path: Path) -> None:
    """The table that is searched, what float16 skips, and the scores."""
    changes = ["batch.max_utterances=64", "batch.fit=true", "batch.memory=0.012", "train.precision=fp16"]
    two = ["cluster.workers=2", "cluster.worker_cpus=0.5", "cluster.loader_cpus=0.5", "cluster.cpus=2"]
    for name, overrides in {"two": two, "one": ["cluster.workers=0", "cluster.ranks=2"]}.items():
        subprocess.run(command(shards, tmp_path / name, *changes, *overrides), check=True)
    tables, manifests, trained = (
        [json.loads((tmp_path / name / file).read_text()) for name in ("two", "one")]
        for file in ("batches.json", "manifest.json", "training.json")
    )
    assert tables[0] == tables[1]
    sizes = {utterances for _, _, utterances in tables[0]["table"]}
    assert 1 < min(sizes) < max(sizes) <= 64, "memory bounds them"
    assert manifests[0]["counts"]["skipped_updates"] == manifests[1]["counts"]["skipped_updates"]
    for scores, its_scores in zip(*(found["validations"] for found in trained), strict=True):
        assert its_scores == pytest.approx(scores, rel=1e-2)


@pytest.mark.cluster
def test_an_update_that_is_not_finite_leaves_its_batches_of_both_processes(shards: Path, tmp_path: Path) -> None:
    overrides = ["train.lr=1e30", "train.warmup=0", "cluster.workers=2", "cluster.worker_cpus=0.5"]
    overrides += ["cluster.loader_cpus=0.5", "cluster.cpus=2"]
    job = subprocess.run(command(shards, tmp_path / "bad", *overrides), capture_output=True, text=True, check=False)
    assert job.returncode == 2
    place = tmp_path / "bad" / "not-finite" / "update-0000002"
    said = job.stdout + job.stderr
    assert "the loss of update 2 is not finite in 2 of its batches" in said
    assert str(place) in said
    assert "were lost" not in said, "it is not tried again"
    ids = [json.loads((place / f"rank-{rank}-batch-0.json").read_text())["ids"] for rank in range(2)]
    assert not set(ids[0]) & set(ids[1])
    assert (place / "weights.safetensors").exists()
