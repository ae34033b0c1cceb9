"""Nodes that are lost without grace, as where power fails: each kind of work ends with the right result.

And what it says of it: what was lost, and what is done again. Run by `make test-cluster`.
"""

import json
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.train

from xlst_ray import storage
from xlst_ray.cluster import train
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.cluster.train import OnValidation, run_training
from xlst_ray.cluster.tune import Sweep, run_trials
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.source_texts import prepare_texts
from xlst_ray.stages.stage import StageResult
from xlst_ray.stages.translate import Wanted, translate
from xlst_ray.sweep.journal import Journal
from xlst_ray.sweep.options import SearchOptions
from xlst_ray.sweep.space import Assignment, Space

sys.path.insert(0, str(Path(__file__).parent))
import numbers_job
import simulated
import trials
from numbers_job import Job, options
from simulated import ASKED, Nodes, here, note, printed, wait_for, wait_once

for module in (numbers_job, simulated, trials):
    ray.cloudpickle.register_pickle_by_value(module)  # workers do not have this folder on their path

pytestmark = pytest.mark.cluster


def first_waits(folder: Path) -> Work:
    """Work whose first item waits until its node is lost; another try of it does not wait."""

    def work(item: int) -> dict[str, Any]:
        if item == 0:
            wait_once(folder)
        return {"item": item, "node": here()}

    return work


@pytest.mark.parametrize("pool", [None, 2])
def test_items_of_a_lost_node_are_done_on_another(
    nodes: Nodes, tmp_path: Path, pool: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes.have(data=2)
    losing = nodes.lose_where(tmp_path)
    results = list(map_items("x", "items", partial(first_waits, tmp_path), range(6), ASKED, pool=pool, cpus=1))
    losing.join()
    lost = (tmp_path / "waits").read_text().split()[0]
    assert sorted(result["item"] for result in results) == list(range(6)), "each once"
    assert next(result["node"] for result in results if result["item"] == 0) != lost
    assert "x: 1 nodes went away meanwhile" in capsys.readouterr().out


class Loses:
    """An engine whose node is lost in its third call."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder, self._calls = folder, 0

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        note(self._folder / "asked", "\n".join(texts))
        self._calls += 1
        if self._calls == 3:
            wait_once(self._folder)
        return [Translation(text.upper(), "ok") for text in texts]


def test_translation_goes_on_without_a_lost_node(
    nodes: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it had finished is not asked for again."""
    nodes.have(data=2)
    sentences = [f"sentence {number}" for number in range(96)]
    columns = {"audio": b"", "duration": 1.0, "lang": "en", "speaker": "", "group": "", "translations": []}
    rows = [{"id": text, "text": text, **columns} for text in sentences]
    shard = f"{tmp_path}/shards/train/shard-00000.parquet"
    storage.write_table(shard, pa.Table.from_pylist(rows, SHARD_SCHEMA))
    cluster = ASKED.replace(translators=2)
    stage = StageResult(f"{tmp_path}/shards", "prepare", "x", {}, {}, 0.0, reused=True)
    texts, _ = prepare_texts(stage, [shard], len(rows), 8, str(tmp_path), cluster)
    kept = Translations(f"{tmp_path}/kept")

    losing = nodes.lose_where(tmp_path)
    (counts,) = translate(
        texts, [Wanted("translate", "fi", kept, "run")], partial(Loses, tmp_path), PriceOptions(), cluster
    )
    losing.join()
    table = kept.read("")
    found = dict(zip(table["text"].to_pylist(), table["translation"].to_pylist(), strict=True))
    assert found == {text: text.upper() for text in sentences}
    assert counts["sentences"] == len(sentences)
    asked = (tmp_path / "asked").read_text().splitlines()
    again = {text for text in asked if asked.count(text) > 1}
    lost = [bucket for bucket in range(8) if again & set(texts.bucket(bucket).to_pylist())]
    assert len(lost) == 1, "the bucket that it was at"
    assert "translate: 1 nodes went away meanwhile" in capsys.readouterr().out


@dataclass(frozen=True)
class LosesItsNode(trials.Curve):
    """The trial of quality 0.5 loses its node before its second update."""

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        def told(validation: Any) -> None:
            on_validation(validation)
            if assignment["quality"] == 0.5 and validation["update"] == 1.0:
                wait_once(Path(self.folder))

        return super().__call__(assignment, cluster, told)


def test_a_sweep_goes_on_without_a_lost_node(nodes: Nodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nodes.have(data=2)
    points = [{"quality": quality} for quality in (0.4, 0.5, 0.6, 0.7)]
    work = LosesItsNode(str(tmp_path))
    sweep = Sweep(work, Space({}, {}), points, longest=trials.UPDATES, grace=1, in_process=True)
    cluster = ClusterOptions(worker_cpus=0.75, loader_cpus=0.25, address="auto")
    losing = nodes.lose_where(tmp_path)
    records = run_trials(sweep, SearchOptions(stop="none"), Journal(str(tmp_path / "journal")), cluster, lambda _: None)
    losing.join()
    assert {record.assignment["quality"]: record.wer for record in records.values()} == pytest.approx(
        {0.4: 60.0, 0.5: 50.0, 0.6: 40.0, 0.7: 30.0}
    )
    assert all(record.state == "finished" and record.trained == trials.UPDATES for record in records.values())
    lines = {point["quality"]: len((tmp_path / str(point["quality"])).read_text().splitlines()) for point in points}
    assert lines == {0.4: 4, 0.5: 5, 0.6: 4, 0.7: 4}, "the update that was lost is done again, and no other"
    assert re.search(r"trial \d was lost after update 1 \(\w+\): it goes on", capfd.readouterr().out)


def wait_at_15(folder: Path, number: int) -> None:
    """Notes the batch; at the fifteenth the first process says where it is, once its checkpoint is known, and waits."""
    note(folder / "batches", str(number))
    if number == 15:
        wait_for((folder / "validated").exists)
        wait_once(folder)


def test_training_goes_on_from_its_checkpoint_on_another_node(nodes: Nodes, tmp_path: Path) -> None:
    nodes.have(train=2)
    schedule = options(updates=30, validate_every=10)

    losing = nodes.lose_where(tmp_path)
    work = Job(schedule, partial(wait_at_15, tmp_path))
    with printed(tmp_path / "printed") as said:
        trained = run_training(work, str(tmp_path / "out"), ASKED, lambda _: (tmp_path / "validated").touch())
        losing.join()
        wait_for(lambda: "numbers: 1 training processes were lost" in said())
        wait_for(lambda: "numbers: goes on from update 10 with 1 processes" in said())
    expected = run_training(Job(schedule), str(tmp_path / "expected"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
    loaded = [int(line) for line in (tmp_path / "batches").read_text().split()]
    assert loaded.count(5) == 1, "what came before the checkpoint is not done again"
    assert loaded.count(12) == 2, "what came after it is"


def test_training_goes_on_with_fewer_processes_and_grows_again(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one lost with its node, one; a node joins, two again; each update was that of two ranks."""
    nodes.have(train=2)
    monkeypatch.setattr(train, "SECONDS_TO_GROW", 3.0)
    schedule = options(updates=2000, validate_every=100, log_every=500)
    sizes = tmp_path / "sizes"

    cluster = ASKED.replace(workers=2, min_workers=1)
    job = Job(schedule, partial(pace, tmp_path / "end"), partial(note_size, sizes))
    checkpoints = tmp_path / "out" / "checkpoints"
    with ThreadPoolExecutor(1) as thread:  # a node is added in the main thread alone
        training = thread.submit(run_training, job, str(tmp_path / "out"), cluster)
        wait_for(lambda: training.done() or (size_in(sizes) == 2 and any(checkpoints.glob("update-*"))))
        nodes.lose(json.loads(sizes.read_text().splitlines()[-1])[1])
        wait_for(lambda: training.done() or size_in(sizes) == 1)
        nodes.add("train")
        wait_for(lambda: training.done() or size_in(sizes) == 2)
        (tmp_path / "end").touch()
        trained = training.result()
    found = [json.loads(line)[0] for line in sizes.read_text().splitlines()]
    # It may begin with one, where Ray does not know of the other node yet.
    assert [size for size, _ in groupby(found)][-3:] == [2, 1, 2]
    assert trained.state.update == 2000


def size_in(file: Path) -> int:
    """Processes of the training as it was made last; 0 before."""
    return json.loads(file.read_text().splitlines()[-1])[0] if file.exists() else 0


def note_size(file: Path) -> None:
    note(file, json.dumps([ray.train.get_context().get_world_size(), here()]))


def pace(end: Path, number: int) -> None:
    if not end.exists():
        time.sleep(0.1)


def test_training_saves_itself_on_a_node_that_is_about_to_go(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the notice a checkpoint is written and training goes on; at its deadline it starts again on another node.

    `max_failures` is 0: a node that gave notice is no failure.
    """
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.2")
    nodes.have(train=2)
    schedule, end, places = (
        options(updates=400, validate_every=400, log_every=100),
        tmp_path / "end",
        tmp_path / "places",
    )
    job = Job(schedule, partial(pace, end), partial(note_size, places))
    with printed(tmp_path / "printed") as said, ThreadPoolExecutor(1) as thread:
        training = thread.submit(run_training, job, str(tmp_path / "out"), ASKED.replace(max_failures=0))
        wait_for(lambda: training.done() or places.exists())
        (leaving,) = [json.loads(line)[1] for line in places.read_text().splitlines()]
        nodes.drain(leaving, seconds=3600)
        wait_for(lambda: training.done() or bool(list((tmp_path / "out").glob("checkpoints/update-*"))))
        (saved,) = [path.name for path in (tmp_path / "out").glob("checkpoints/update-*")]
        nodes.drain(leaving, seconds=0)
        wait_for(lambda: training.done() or len(places.read_text().splitlines()) == 2)
        end.touch()
        trained = training.result()
        update = int(saved.removeprefix("update-"))
        wait_for(lambda: f"numbers: 1 nodes will be taken away: a checkpoint of update {update} first" in said())
        wait_for(lambda: f"numbers: goes on from update {update} with 1 processes" in said())
    nodes.lose(leaving)
    first, second = [json.loads(line)[1] for line in places.read_text().splitlines()]
    assert first == leaving != second
    assert 0 < update < 400
    expected = run_training(Job(schedule), str(tmp_path / "expected"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
