"""What stands around vLLM in the job, without it; the engine itself is tested by make test-vllm."""

import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.cluster import llm, llm_engine, llm_errors
from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions
from xlst_ray.cluster.pool import rebuild
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.specification import Specification

OPTIONS = EngineOptions.model_validate({"engine": "vllm", "path": "/models/x", "prompt": {"preset": "trained-lm"}})


@dataclass
class Buckets:
    """Work in memory: bucket n has n sentences."""

    kept: dict[tuple[int, str], Translation] = field(default_factory=dict)
    portions: list[tuple[int, list[str]]] = field(default_factory=list)

    def load(self, item: int) -> list[str]:
        return [f"sentence {number} of {item}" for number in range(item)]

    def specification(self, item: int) -> Specification:
        return OPTIONS.specify("en", "fi")

    def keep(self, item: int, texts: Sequence[str], results: Sequence[Translation]) -> int:
        if item == 13:
            raise DataError("no space", where="disk", hint="make some")
        self.portions.append((item, list(texts)))
        self.kept.update({(item, text): result for text, result in zip(texts, results, strict=True)})
        return len(texts)


def rows_of(items: Sequence[int], portion: int) -> list[dict[str, Any]]:
    """What the engine's stage hands on, with a translation that tells which sentence it is of."""
    work = Buckets()
    rows = []
    for number, item in enumerate(items):
        texts = work.load(item)
        for start in range(0, len(texts), portion):
            part = texts[start : start + portion]
            for place, text in enumerate(part):
                keys = {"number": number, "start": start, "portion": len(part), "place": place, "text": text}
                result = {"translation": text.upper(), "status": "ok", "error": None}
                rows.append({**keys, **result, "input_tokens": place, "output_tokens": 1})
    return rows


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 7), st.randoms())
def test_portions_become_whole_from_rows_in_any_order(
    items: list[int], portion: int, block: int, order: random.Random
) -> None:
    rows = rows_of(items, portion)
    order.shuffle(rows)
    work = Buckets()
    keeper, yielded = llm._Keeper(items, work), 0
    for start in range(0, len(rows), block):
        table = keeper(pa.Table.from_pylist(rows[start : start + block]))
        assert table.schema.equals(llm.RESULT)
        yielded += sum(int(result) for result in table["result"].to_pylist() if result is not None)
    assert yielded == len(rows)
    assert [texts for item, texts in work.portions] == [
        [text for text in work.load(item) if text in texts] for item, texts in work.portions
    ], "in the order of the bucket"
    assert all(result.text == text.upper() for (_, text), result in work.kept.items())
    assert work.kept.keys() == {(item, text) for item in items for text in work.load(item)}


def test_a_portion_that_is_not_whole_is_not_kept() -> None:
    work = Buckets()
    keeper = llm._Keeper([4], work)
    rows = rows_of([4], 4)
    for row in rows[:3]:
        assert keeper(pa.Table.from_pylist([row]))["result"].to_pylist() == [None], "yet the driver sees that it lives"
    assert not work.portions
    assert keeper(pa.Table.from_pylist(rows[3:]))["result"].to_pylist() == ["4", None]


@pytest.mark.parametrize("late", [False, True])
def test_the_start_of_an_engine_is_no_time_of_its_portions(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`late`: the first portion is whole before the sentence that shows that the engine works."""
    nothing: dict[str, Any] = {"result": None, "error": None, "ready": False}
    rows = [nothing, {**nothing, "result": '"a"'}, {**nothing, "ready": True}, {**nothing, "result": '"b"'}]
    if not late:
        rows[1:3] = rows[2:0:-1]
    clock = iter([0, 40, 41, 42, 44])
    monkeypatch.setattr(llm.time, "monotonic", lambda: next(clock))
    expected = [("a", 0), ("b", 2 * 3)] if late else [("a", 2 * 1), ("b", 2 * 2)]
    assert list(llm._portions("x", rows, engines=2)) == expected


def test_the_error_of_a_row_and_that_of_keeping() -> None:
    work = Buckets()
    row = {**rows_of([1], 1)[0], "translation": None, "status": None, "__inference_error__": "ValueError: bad\nmore"}
    llm._Keeper([1], work)(pa.Table.from_pylist([row]))
    assert list(work.kept.values()) == [Translation(None, "error", "engine: ValueError: bad")]
    told = llm._Keeper([13], work)(pa.Table.from_pylist(rows_of([13], 13)))["error"].to_pylist()[0]
    error = rebuild(told)
    assert (type(error), error.what, error.where, error.hint) == (DataError, "no space", "disk", "make some")


def test_causes_are_the_last_exception_that_is_named() -> None:
    told = "ray::Map\n  File x\nValueError: first\nThe above\nvllm.errors.EngineError: no room: 3 GiB\n"
    assert llm_errors.cause(told) == "EngineError: no room: 3 GiB"
    wrapped = "KeyError: 'x'\n\nray.data.exceptions.UserCodeException: UDF failed to process a data block.\n"
    assert llm_errors.cause(wrapped) == "KeyError: 'x'"
    assert llm_errors.cause("nothing known\nkilled") == "killed"


def test_the_root_cause_is_heard_in_the_logs(ray_cluster: None) -> None:
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as logs

    def emit(*lines: str) -> None:
        logs.emit({"lines": list(lines), "ip": "192.0.2.1", "pid": "1", "is_err": False})

    heard: list[str] = []
    told = "ray.exceptions.ActorDiedError: died\nRuntimeError: Engine core failed. See root cause above. Failed: {}\n"
    line = "(EngineCore pid=6266) ERROR 11-23 00:54:11 [core.py:1510] "
    with llm_errors.listening(heard):
        emit(f"{line}    raise ValueError(", f"{line}ValueError: No memory left", "ValueError: other")
        emit(f"{line}Exception: failed in a background process. See stack trace for root cause.")
    emit(f"{line}ValueError: later")
    assert heard == ["ValueError: No memory left"]
    assert llm_errors.cause(told, heard) == "ValueError: No memory left"
    assert llm_errors.cause("KeyError: 'x'\n", heard) == "KeyError: 'x'"


def test_replicas_ask_for_what_they_need() -> None:
    cluster = ClusterOptions(translators=8, translator_gpus=4, translator_cpus=2)
    arguments = llm_engine.engine_arguments(OPTIONS, cluster, 512)
    assert llm_engine._bundles(arguments, cluster) == [{"CPU": 2.0, "GPU": 1.0}] * 4
    assert len(llm_engine._bundles(arguments | {"pipeline_parallel_size": 2}, cluster)) == 8
    assert (arguments["tensor_parallel_size"], arguments["max_model_len"]) == (4, 512)
    assert "enforce_eager" not in arguments
    alone = ClusterOptions(translator_cpus=1)
    arguments = llm_engine.engine_arguments(OPTIONS, alone, 512)
    assert llm_engine._bundles(arguments, alone) == [{"CPU": 1.0}]
    assert arguments["enforce_eager"]


@pytest.mark.parametrize(("gpus", "role"), [(0, "data"), (1, "engine"), (2, "engine")])
def test_replicas_are_sent_to_the_nodes_of_their_role(ray_cluster: None, gpus: int, role: str) -> None:
    """That they come there is tested in test_nodes.py; here, that Ray Data LLM is told."""
    stages = {}
    for by_role in (True, False):
        cluster = ClusterOptions(by_role=by_role, translator_gpus=gpus)
        processor = llm_engine.build_engine("/models/x", 512, OPTIONS, cluster, lambda row: row)
        stages[by_role] = processor.get_stage_by_name(llm_engine.STAGE).get_dataset_map_batches_kwargs(1, "x")
        assert stages[by_role].get("num_gpus", 0) == (gpus if gpus == 1 else 0), "of several, their group has them"
    assert stages[True]["label_selector"] == {ROLE_LABEL: role}
    assert "label_selector" not in stages[False]
    assert ("ray_remote_args_fn" in stages[True]) == (gpus > 1)
    if gpus > 1:
        told = stages[True]["ray_remote_args_fn"]
        assert told.args == ([{"CPU": 1.0, "GPU": 1.0}] * gpus, {ROLE_LABEL: role})


def test_vllm_needs_a_replica_and_a_processor_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="runs on Ray: it needs a replica"):
        llm.refuse_unfit(OPTIONS, ClusterOptions(translators=0), [])
    monkeypatch.setattr(llm_engine.ray, "cluster_resources", lambda: {"CPU": 4.0})
    llm_engine.refuse_without_room(ClusterOptions(translators=2, translator_cpus=1.25), 4)
    llm_engine.refuse_without_room(ClusterOptions(translators=9, address="auto"), 4)  # it may grow
    with pytest.raises(ConfigError, match=r"takes 4 of 4 CPUs, and what feeds it needs 1\.4") as raised:
        llm_engine.refuse_without_room(ClusterOptions(translators=2, translator_cpus=2), 4)
    assert raised.value.hint == "set it to 1.3 or less"
    with pytest.raises(ConfigError, match="takes 8 of 4 CPUs") as raised:
        llm_engine.refuse_without_room(ClusterOptions(translators=8, translator_gpus=1), 4)
    assert raised.value.hint == "set it to 0.32 or less"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_a_missing_vllm_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs vLLM, which is not installed here"):
        list(llm.translate_with_llm("x", [1], Buckets(), OPTIONS, ClusterOptions()))
    assert list(llm.translate_with_llm("x", [], Buckets(), OPTIONS, ClusterOptions())) == []
