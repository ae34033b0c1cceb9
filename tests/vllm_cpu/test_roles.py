"""vLLM on a cluster of nodes with roles, on this machine with fake GPUs: what runs where, and a node that is lost."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors
from text_shards import read_labels, write_text_shards
from vllm_jobs import kept_files

from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions
from xlst_ray.mt.options import EngineOptions
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling

if TYPE_CHECKING:
    from conftest import Served

STORE = 80 * 2**20  # bytes of each node's object store: the least that Ray takes


class Nodes:
    """A head without work, and worker nodes by role."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "labels": {ROLE_LABEL: "head"}, "object_store_memory": STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.by_id: dict[str, Any] = {}

    def add(self, role: str, *, cpus: int = 1, gpus: int = 0) -> None:
        node = self.cluster.add_node(num_cpus=cpus, num_gpus=gpus, labels={ROLE_LABEL: role}, object_store_memory=STORE)
        self.by_id[node.node_id] = node

    def role(self, node_id: str) -> str:
        return str({node["NodeID"]: node["Labels"] for node in ray.nodes()}[node_id][ROLE_LABEL])


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    yield started
    ray.shutdown()
    started.cluster.shutdown()


def test_replicas_run_on_the_engines_nodes_and_outlive_one_of_them(
    served: "Served", nodes: Nodes, tmp_path: Path
) -> None:
    nodes.add("data", cpus=4)
    nodes.add("engine", gpus=1)
    nodes.add("engine", gpus=1)
    ray.init(address=nodes.cluster.address, logging_level="WARNING")
    sentences = [f"{number} {sentence}" for number in range(10) for sentence in served.sentences]
    write_text_shards(tmp_path / "shards", [sentences[start : start + 500] for start in range(0, 3000, 500)])
    engine = {
        "engine": "vllm", "path": str(served.folder), "prompt": {"preset": "trained-lm"}, "max_new_tokens_ratio": 1.0,
        "vllm": {"dtype": "float32", "max_num_seqs": 32, "timeout": 600, "engine": {"enforce_eager": True}},
    }  # fmt: skip
    options = LabelOptions(engine=EngineOptions.model_validate(engine), buckets=16)
    cluster = ClusterOptions(address="auto", by_role=True, translators=2, translator_gpus=1, translator_cpus=0.5)
    labelling = open_labelling(options, str(tmp_path / "shards"), ["fi"], str(tmp_path / "labels"), None, cluster)
    seen: dict[str, set[str]] = {}
    with ThreadPoolExecutor(1) as thread:  # a node is added in the main thread alone
        running = thread.submit(labelling.run)
        while not kept_files(tmp_path) and not running.done():
            time.sleep(0.1)  # between two looks
        for actor in list_actors(filters=[("state", "=", "ALIVE")], limit=1000):
            stage = next(
                (name for name in ("vLLMEngineStageUDF", "_Keeper", "_Prompts") if name in actor.class_name), ""
            )
            seen.setdefault(stage, set()).add(actor.node_id)
        before = kept_files(tmp_path)
        nodes.cluster.remove_node(nodes.by_id[min(seen["vLLMEngineStageUDF"])], allow_graceful=False)
        nodes.add("engine", gpus=1)
        running.result()
    assert 0 < len(before) < 16, "the node was lost too late"
    assert before.items() <= kept_files(tmp_path).items()
    roles = {stage: {nodes.role(place) for place in places} for stage, places in seen.items() if stage}
    assert roles == {"vLLMEngineStageUDF": {"engine"}, "_Keeper": {"data"}, "_Prompts": {"data"}}
    assert len(seen["vLLMEngineStageUDF"]) == 2
    texts = [text for path in kept_files(tmp_path) for text in pq.read_table(path)["text"].to_pylist()]
    assert len(texts) == len(set(texts)) == len(set(sentences))
    assert len(read_labels(tmp_path / "labels")) == len(sentences)
