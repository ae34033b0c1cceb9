"""vLLM on a cluster of nodes with roles, on this machine with fake GPUs: what runs where, and a node that is lost."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from ray.util.state import list_actors
from text_shards import read_labels, write_text_shards
from vllm_jobs import kept_files

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import address_known
from xlst_ray.mt.options import EngineOptions
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
from simulated import Nodes, wait_for

if TYPE_CHECKING:
    from conftest import Served

BUCKETS = 16
STAGES = {"Whole": "engine", "_Keeper": "data", "_Prompts": "data"}  # Ray's actors by their class, and where they go


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    ray.shutdown()
    earlier = engines()
    with address_known():
        started = Nodes(dashboard=True)
        yield started
    ray.shutdown()
    started.cluster.shutdown()
    for engine in engines() - earlier:  # a node that is lost takes its engine along, a simulated one leaves it behind
        engine.kill()


def engines() -> set[psutil.Process]:
    return {process for process in psutil.process_iter() if process.name().startswith("VLLM::")}


def test_replicas_run_on_the_engines_nodes_and_outlive_one_of_them(
    served: "Served", nodes: Nodes, tmp_path: Path
) -> None:
    nodes.add("data", cpus=4)
    nodes.have(data=1, engine=2)
    sentences = [f"{number} {sentence}" for number in range(10) for sentence in served.sentences]
    write_text_shards(tmp_path / "shards", [sentences[start : start + 500] for start in range(0, 3000, 500)])
    engine = {
        "engine": "vllm", "path": str(served.folder), "prompt": {"preset": "trained-lm"}, "max_new_tokens_ratio": 1.0,
        "vllm": {"dtype": "float32", "max_num_seqs": 32, "timeout": 600, "engine": {"enforce_eager": True}},
    }  # fmt: skip
    options = LabelOptions(engine=EngineOptions.model_validate(engine), buckets=BUCKETS)
    cluster = ClusterOptions(address="auto", by_role=True, translators=2, translator_gpus=1, translator_cpus=0.5)
    labelling = open_labelling(options, str(tmp_path / "shards"), ["fi"], str(tmp_path / "labels"), None, cluster)
    seen: dict[str, set[tuple[str, str]]] = {stage: set() for stage in STAGES}  # (node, its role) of the actors
    with ThreadPoolExecutor(1) as thread:  # a node is added in the main thread alone
        running, gone = thread.submit(labelling.run), set[str]()

        def look() -> bool:
            for actor in list_actors(limit=1000):
                for stage in STAGES:
                    if stage in actor.class_name and actor.state == "ALIVE" and actor.node_id not in gone:
                        seen[stage].add((actor.node_id, nodes.role(actor.node_id)))
            return running.done()

        wait_for(lambda: look() or bool(kept_files(tmp_path)))
        before, (lost, _) = kept_files(tmp_path), min(seen["Whole"])
        gone.add(lost)
        nodes.lose(lost)
        nodes.add("engine")
        wait_for(look)
        running.result()
    assert len(seen["Whole"]) > 1, "a replica on each of two nodes"
    assert {stage: {role for _, role in at} for stage, at in seen.items()} == {s: {r} for s, r in STAGES.items()}
    assert 0 < len(before) < BUCKETS, "the node was lost too late"
    after = kept_files(tmp_path)
    assert before.items() <= after.items()
    texts = [text for path in after for text in pq.read_table(path)["text"].to_pylist()]
    assert len(texts) == len(set(texts)) == len(set(sentences))
    assert len(read_labels(tmp_path / "labels")) == len(sentences)
