"""Clusters of several nodes on this machine, with fake GPUs and labels: what runs where, and what a lost node costs.

Run by `make test-cluster`. Nodes are removed without grace, as where power fails.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.train
from ray.cluster_utils import Cluster

from xlst_ray import storage
from xlst_ray.cluster import llm_engine, metrics, train
from xlst_ray.cluster.nodes import refuse_unseen
from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.cluster.train import OnValidation, run_training
from xlst_ray.cluster.tune import Sweep, run_trials
from xlst_ray.errors import ConfigError
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translations import Translations
from xlst_ray.progress import STAGE_VARIABLE
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.stage import StageResult
from xlst_ray.stages.translate import Wanted, prepare_texts, translate
from xlst_ray.sweep.journal import Journal
from xlst_ray.sweep.options import SearchOptions
from xlst_ray.sweep.space import Assignment, Space

sys.path.insert(0, str(Path(__file__).parent))
import numbers_job
import trials
from numbers_job import Job, options

for module in (numbers_job, trials):
    ray.cloudpickle.register_pickle_by_value(module)  # workers do not have this folder on their path

pytestmark = pytest.mark.cluster

STORE = 80 * 2**20  # bytes of each node's object store: the least that Ray takes
# Trainers ask for no GPU: a process that has a fake one would train on it. Engines do.
ASKED = ClusterOptions(by_role=True, worker_cpus=1, loader_cpus=0.5)


class Nodes:
    """A head without work, and worker nodes by role."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "labels": {ROLE_LABEL: "head"}, "object_store_memory": STORE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.by_id: dict[str, Any] = {}

    def add(self, role: str, *, gpus: int = 0) -> None:
        node = self.cluster.add_node(num_cpus=1, num_gpus=gpus, labels={ROLE_LABEL: role}, object_store_memory=STORE)
        self.by_id[node.node_id] = node

    def connect(self) -> None:
        ray.init(address=self.cluster.address, logging_level="WARNING")

    def lose(self, node_id: str) -> None:
        self.cluster.remove_node(self.by_id[node_id], allow_graceful=False)

    def lose_where(self, folder: Path) -> threading.Thread:
        """In the background: the node of the process that waits in `folder`, as soon as one does.

        Once that process is no more there is a file `go`, for those who come there later.
        """

        def lose() -> None:
            wait_for((folder / "waits").exists)
            node, process = (folder / "waits").read_text().split()
            self.lose(node)
            wait_for(lambda: not runs(int(process)))
            (folder / "go").touch()

        losing = threading.Thread(target=lose, daemon=True)
        losing.start()
        return losing

    def role(self, node_id: str) -> str:
        return str({node["NodeID"]: node["Labels"] for node in ray.nodes()}[node_id][ROLE_LABEL])


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    ray.shutdown()  # of a cluster that another test has left
    started = Nodes()
    yield started
    ray.shutdown()
    started.cluster.shutdown()


def here() -> str:
    return str(ray.get_runtime_context().get_node_id())


def reporter() -> Work:
    return lambda _: here()


def note(file: Path, line: str) -> None:
    with file.open("a") as lines:
        lines.write(f"{line}\n")


def note_places(file: Path) -> None:
    """Where a training process is, and where a dataset that it makes, as loaders are, is worked on."""
    note(file, json.dumps(["train", here()]))
    for row in ray.data.range(4).map(lambda _: {"node": here()}, num_cpus=0.25).take_all():
        note(file, json.dumps(["load", row["node"]]))


def wait_at_15(folder: Path, number: int) -> None:
    """Notes the batch; the first process at the fifteenth says where it is and waits for a file `go`."""
    note(folder / "batches", str(number))
    if number == 15:
        wait_once(folder)


def wait_once(folder: Path) -> None:
    """The first process that comes here says where and which it is, and waits for a file `go`."""
    try:
        (folder / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return
    (folder / "name").write_text(f"{here()} {os.getpid()}")
    (folder / "name").rename(folder / "waits")
    wait_for((folder / "go").exists)


def runs(process: int) -> bool:
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # that of a dead one is empty until it is reaped
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Between two looks a little is slept; a test that hangs is ended by who runs it."""
    while not condition():
        time.sleep(0.05)


def test_work_runs_where_its_role_is_and_none_on_the_head(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add("data")
    nodes.add("engine", gpus=1)
    nodes.add("train")
    nodes.connect()
    places = {
        "decode": map_items("decode", "shards", reporter, range(4), ASKED, cpus=0.5, folder=str(tmp_path)),
        "cpu pool": map_items("translate", "buckets", reporter, range(2), ASKED, pool=1, cpus=0.5),
        "gpu pool": map_items("translate", "buckets", reporter, range(2), ASKED, pool=1, cpus=0.5, gpus=1),
    }
    roles = {work: {nodes.role(place) for place in found} for work, found in places.items()}
    assert roles == {"decode": {"data"}, "cpu pool": {"data"}, "gpu pool": {"engine"}}
    assert nodes.role(here()) == "head", "the driver"

    job = Job(options(), built=partial(note_places, tmp_path / "places"))
    run_training(job, str(tmp_path / "out"), ASKED)
    seen = [json.loads(line) for line in (tmp_path / "places").read_text().splitlines()]
    assert {(what, nodes.role(place)) for what, place in seen} == {("train", "train"), ("load", "data")}


class Place:
    """In an engine's place: notes where it is."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "engine": [here()] * len(batch["id"])}


@pytest.mark.parametrize("processes", [1, 2])
def test_replicas_are_with_the_engines_and_what_feeds_them_is_not(nodes: Nodes, processes: int) -> None:
    nodes.add("data")
    nodes.add("engine", gpus=1)
    nodes.add("engine", gpus=1)
    nodes.connect()
    cluster = ASKED.replace(translator_gpus=processes, translator_cpus=0.5)
    bundles = [{"CPU": 0.5, "GPU": 1.0}] * processes
    stage: dict[str, Any] = {"num_cpus": 0.5, "num_gpus": 1}
    if processes > 1:  # what Ray Data LLM asks for then
        stage = {"num_gpus": 0, "ray_remote_args_fn": dict}
    llm_engine.place(stage, bundles, llm_engine.engine_nodes(cluster))
    with llm_engine.settings_of_data(cluster, 600.0):
        rows = ray.data.range(6, override_num_blocks=1).map(lambda row: {**row, "before": here()}, num_cpus=0.1)
        rows = rows.repartition(target_num_rows_per_block=2)
        rows = rows.map_batches_internal(Place, compute=ray.data.ActorPoolStrategy(size=1), batch_size=2, **stage)
        rows = rows.map(lambda row: {**row, "after": here()}, num_cpus=0.1)
    assert ray.data.DataContext.get_current().execution_options.label_selector is None
    found = rows.take_all()
    roles = {name: {nodes.role(row[name]) for row in found} for name in ("before", "engine", "after")}
    assert roles == {"before": {"data"}, "engine": {"engine"}, "after": {"data"}}
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] == "CREATED"]
    places = {node for group in groups for node in group["bundles_to_node_id"].values()}
    assert {nodes.role(place) for place in places} <= {"engine"}
    assert len(places) == (2 if processes > 1 else 0)


def test_a_folder_that_a_node_does_not_see_is_refused(nodes: Nodes, tmp_path: Path, monkeypatch: Any) -> None:
    """`/proc/self/cwd` is another folder in every process."""
    nodes.add("data")
    nodes.connect()
    monkeypatch.setattr("xlst_ray.cluster.nodes.SECONDS_TO_LOOK", 600)  # a busy machine is no failure
    refuse_unseen(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"1 of 2 nodes do not see it"):
        refuse_unseen("/proc/self/cwd")
    assert not list(tmp_path.glob("*.probe"))


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
    nodes.add("data")
    nodes.add("data")
    nodes.connect()
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


def test_translation_goes_on_without_a_lost_node(nodes: Nodes, tmp_path: Path) -> None:
    """What it had finished is not asked for again."""
    nodes.add("data")
    nodes.add("data")
    nodes.connect()
    sentences = [f"sentence {number}" for number in range(96)]
    columns = {"audio": b"", "duration": 1.0, "lang": "en", "speaker": "", "group": "", "translations": []}
    rows = [{"id": text, "text": text, **columns} for text in sentences]
    shard = f"{tmp_path}/shards/train/shard-00000.parquet"
    storage.write_table(shard, pa.Table.from_pylist(rows, SHARD_SCHEMA))
    cluster = ASKED.replace(translators=2)
    stage = StageResult(f"{tmp_path}/shards", "x", {}, {}, 0.0, reused=True)
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


@dataclass(frozen=True)
class LosesItsNode(trials.Curve):
    """The trial of quality 0.5 loses its node before its second update."""

    def __call__(self, assignment: Assignment, cluster: ClusterOptions, on_validation: OnValidation) -> dict[str, Any]:
        def told(validation: Any) -> None:
            on_validation(validation)
            if assignment["quality"] == 0.5 and validation["update"] == 1.0:
                wait_once(Path(self.folder))

        return super().__call__(assignment, cluster, told)


def test_a_sweep_goes_on_without_a_lost_node(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add("data")
    nodes.add("data")
    nodes.connect()
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


def test_training_goes_on_from_its_checkpoint_on_another_node(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add("data")
    nodes.add("train")
    nodes.add("train")
    nodes.connect()
    schedule = options(updates=30, validate_every=10)

    losing = nodes.lose_where(tmp_path)
    trained = run_training(Job(schedule, partial(wait_at_15, tmp_path)), str(tmp_path / "out"), ASKED)
    losing.join()
    expected = run_training(Job(schedule), str(tmp_path / "expected"), ClusterOptions(workers=0))
    assert trained.weights == expected.weights
    loaded = [int(line) for line in (tmp_path / "batches").read_text().split()]
    assert loaded.count(5) == 1, "what came before the checkpoint is not done again"
    assert loaded.count(12) == 2, "what came after it is"


def test_counters_are_rays_metrics(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.connect()
    monkeypatch.setenv(STAGE_VARIABLE, "prepare-fi-0123456789ab")
    metrics.count_rows(3, {"too long": 2})
    (node,) = ray.nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def exported() -> list[str]:
        with urllib.request.urlopen(address, timeout=10) as page:
            return [line for line in page.read().decode().splitlines() if "xlst_rows_total{" in line]

    wait_for(lambda: len(exported()) == 2)
    assert {line.rpartition(" ")[2] for line in exported()} == {"3.0", "2.0"}
    assert all('stage="prepare-fi-0123456789ab"' in line for line in exported())


def test_training_goes_on_with_fewer_processes_and_grows_again(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one lost with its node, one; a node joins, two again; each update was that of two ranks."""
    nodes.add("train")
    nodes.add("train")
    nodes.connect()
    monkeypatch.setattr(train, "SECONDS_TO_GROW", 3.0)
    schedule = options(updates=2000, validate_every=100)
    sizes = tmp_path / "sizes"

    cluster = ASKED.replace(workers=2, min_workers=1)
    job = Job(schedule, partial(pace, tmp_path / "end"), partial(note_size, sizes))
    with ThreadPoolExecutor(1) as thread:  # a node is added in the main thread alone
        training = thread.submit(run_training, job, str(tmp_path / "out"), cluster)
        wait_for(lambda: training.done() or bool(list((tmp_path / "out").glob("checkpoints/update-*"))))
        nodes.lose(json.loads(sizes.read_text().splitlines()[-1])[1])
        wait_for(lambda: training.done() or json.loads(sizes.read_text().splitlines()[-1])[0] == 1)
        nodes.add("train")
        wait_for(lambda: training.done() or json.loads(sizes.read_text().splitlines()[-1])[0] == 2)
        (tmp_path / "end").touch()
        trained = training.result()
    found = [json.loads(line)[0] for line in sizes.read_text().splitlines()]
    assert list(dict.fromkeys(found)) == [2, 1]
    assert found[-1] == 2
    assert trained.state.update == 2000


def note_size(file: Path) -> None:
    note(file, json.dumps([ray.train.get_context().get_world_size(), here()]))


def pace(end: Path, number: int) -> None:
    if not end.exists():
        time.sleep(0.1)
