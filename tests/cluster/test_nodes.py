"""Clusters of several nodes on this machine, with fake GPUs and labels: what runs where, and what is counted there.

Run by `make test-cluster`.
"""

import json
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from xlst_ray.cluster import llm_engine, metrics
from xlst_ray.cluster.nodes import refuse_unseen
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.cluster.train import run_training
from xlst_ray.errors import ConfigError
from xlst_ray.mt.options import EngineOptions
from xlst_ray.progress import STAGE_VARIABLE
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling

sys.path.insert(0, str(Path(__file__).parent))
import numbers_job
import simulated
from numbers_job import Job, options
from simulated import ASKED, Nodes, here, note, wait_for

for module in (numbers_job, simulated):
    ray.cloudpickle.register_pickle_by_value(module)  # workers do not have this folder on their path

pytestmark = pytest.mark.cluster


def reporter() -> Work:
    return lambda _: here()


def note_places(file: Path) -> None:
    """Where a training process is, and where a dataset that it makes, as loaders are, is worked on."""
    note(file, json.dumps(["train", here()]))
    for row in ray.data.range(4).map(lambda _: {"node": here()}, num_cpus=0.25).take_all():
        note(file, json.dumps(["load", row["node"]]))


def test_work_runs_where_its_role_is_and_none_on_the_head(nodes: Nodes, tmp_path: Path) -> None:
    nodes.have(data=1, engine=1, train=1)
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
    nodes.have(data=1, engine=2)
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
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    assert len(groups) == (processes > 1), "none that no replica uses"
    places = {node for group in groups for node in group["bundles_to_node_id"].values()}
    assert {nodes.role(place) for place in places} <= {"engine"}
    assert len(places) == (2 if processes > 1 else 0)


def test_a_folder_that_a_node_does_not_see_is_refused(nodes: Nodes, tmp_path: Path, monkeypatch: Any) -> None:
    """`/proc/self/cwd` is another folder in every process."""
    nodes.have(data=1)
    monkeypatch.setattr("xlst_ray.cluster.nodes.SECONDS_TO_LOOK", 600)  # a busy machine is no failure
    refuse_unseen(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"1 of 2 nodes do not see it"):
        refuse_unseen("/proc/self/cwd")
    assert not list(tmp_path.glob("*.probe"))


def test_labels_in_such_a_folder_are_refused(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from text_shards import write_text_shards  # here: workers import this file without tests/ on their path

    nodes.have(data=1)
    write_text_shards(tmp_path / "shards", [["a", "b"]])
    monkeypatch.chdir(tmp_path)
    human = LabelOptions(engine=EngineOptions(engine="human"))
    labelling = open_labelling(human, str(tmp_path / "shards"), ["fi"], "/proc/self/cwd/out", None, ASKED)
    with pytest.raises(ConfigError, match=r"1 of 2 nodes do not see it"):
        labelling.run()


@ray.remote(num_cpus=0)
class Counting:
    """A process of its own: one that has been in another cluster before goes on telling that one's agent its counts."""

    def count(self) -> str:
        metrics.count_rows(3, {"too long": 2})
        return here()


def test_counters_are_rays_metrics(nodes: Nodes) -> None:
    nodes.have()
    counting = Counting.options(runtime_env={"env_vars": {STAGE_VARIABLE: "prepare-fi-0123456789ab"}}).remote()
    place = ray.get(counting.count.remote())
    (node,) = [node for node in ray.nodes() if node["NodeID"] == place]
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def exported() -> list[str]:
        try:
            with urllib.request.urlopen(address, timeout=10) as page:
                return [line for line in page.read().decode().splitlines() if "xlst_rows_total{" in line]
        except TimeoutError:  # the machine has much to do: asked again
            return []

    wait_for(lambda: len(exported()) == 2)
    assert {line.rpartition(" ")[2] for line in exported()} == {"3.0", "2.0"}
    assert all('stage="prepare-fi-0123456789ab"' in line for line in exported())
