"""vLLM's CPU build, for real: one trained model by four ways must give one translation."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from text_shards import read_labels, write_text_shards
from vllm_jobs import MINUTES, job, kept_files, run

from xlst_ray.mt.engines import open_translator
from xlst_ray.mt.options import EngineOptions

if TYPE_CHECKING:
    from conftest import Served

NEARLY_TIED = 1e-3  # nats between the two best tokens, in float32
LONG = "the old cat " * 60  # is longer than the model


@pytest.fixture(scope="module")
def in_the_job(served: "Served", tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Engine 1, Ray Data LLM: the label rows of the sentences, one that is too long, and one that is not there."""
    folder = tmp_path_factory.mktemp("in-the-job")
    write_text_shards(folder / "shards", [served.sentences, [LONG, ""]])
    code, out = run(job(served.folder, folder / "shards", folder / "labels", "buckets=4"))
    assert code == 0
    assert "vLLM is ready" in out
    rows = read_labels(folder / "labels")
    return [*(rows[f"0-{row}"] for row in range(len(served.sentences))), rows["1-0"], rows["1-1"]]


@pytest.fixture(scope="module")
def server(served: "Served") -> Iterator[str]:
    """Engine 2's other side: vLLM's own server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(served.folder),
        "--served-model-name", "demo-mt", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--enforce-eager", "--max-model-len", "160", "--max-num-seqs", "32",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60 * MINUTES
        while not _answers(f"http://127.0.0.1:{port}/v1/models"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(1)  # between two looks
        yield f"http://127.0.0.1:{port}/v1"
        process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def plain(served: "Served", tmp_path_factory: pytest.TempPathFactory) -> list[str | None]:
    """vLLM without us, in a process of its own: its engine is not meant to be started twice in one."""
    out = tmp_path_factory.mktemp("plain") / "out.json"
    subprocess.run(
        [sys.executable, str(Path(__file__).parent / "plain.py"), str(served.folder), str(out)],
        input=json.dumps(served.sentences), text=True, check=True,
    )  # fmt: skip
    return list(json.loads(out.read_text())["translations"])


def differences(served: "Served", found: Sequence[str | None], name: str) -> int:
    """Sentences translated otherwise than by transformers; each must turn on two tokens that are nearly tied."""
    wrong = [index for index, (mine, greedy) in enumerate(zip(found, served.greedy, strict=True)) if mine != greedy]
    for index in wrong:
        margin = smallest_margin(served.folder, served.sentences[index])
        assert margin < NEARLY_TIED, f"{name}: {served.sentences[index]!r}: {found[index]!r}, {served.greedy[index]!r}"
    print(f"{name}: {len(found) - len(wrong)} of {len(found)} translations equal, {len(wrong)} nearly tied")
    return len(wrong)


def smallest_margin(folder: Path, sentence: str) -> float:
    """Nats between the best and the second best token, at the closest step of the greedy translation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = tokenizer(f"{sentence}<sep>", return_tensors="pt")
    output = model.generate(
        **inputs, do_sample=False, max_new_tokens=len(sentence) + 16, output_logits=True, return_dict_in_generate=True
    )
    best = torch.stack(output.logits).log_softmax(-1).topk(2).values
    return float((best[..., 0] - best[..., 1]).min())


def test_the_model_translates(served: "Served") -> None:
    assert sum(text is not None for text in served.greedy) > 0.9 * len(served.greedy), "else the comparison is empty"
    assert len(set(served.greedy)) > 0.5 * len(served.greedy)


def test_the_engine_in_the_job_agrees_with_transformers(served: "Served", in_the_job: list[dict[str, Any]]) -> None:
    rows = in_the_job[: len(served.sentences)]
    assert differences(served, [row["translation"] for row in rows], "engine vllm") < 0.01 * len(rows)
    assert {row["error"] for row in rows if row["translation"] is None} <= {"too long"}


def test_a_sentence_that_does_not_fit_is_an_error_of_its_own(in_the_job: list[dict[str, Any]]) -> None:
    long, empty = in_the_job[-2:]
    assert (long["translation"], long["status"], long["error"]) == (None, "error", "source too long")
    assert (empty["translation"], empty["status"]) == (None, "missing")


def test_plain_vllm_agrees_with_transformers(served: "Served", plain: list[str | None]) -> None:
    assert differences(served, plain, "vllm.LLM.generate") < 0.01 * len(plain)


def test_the_engine_behind_http_agrees_with_transformers(served: "Served", server: str) -> None:
    options = EngineOptions.model_validate(
        {"engine": "http", "model": "demo-mt", "http": {"url": server, "concurrency": 32}, "max_new_tokens_ratio": 1.0,
         "prompt": {"preset": "trained-lm"}}
    )  # fmt: skip
    results = open_translator(options, "en", "fi").translate(served.sentences)
    assert {result.error for result in results if result.text is None} <= {"too long"}
    assert differences(served, [result.text for result in results], "engine http") < 0.01 * len(results)
    assert all(result.output_tokens > 0 for result in results)


def test_a_model_that_does_not_fit_ends_the_job_with_one_line(served: "Served", tmp_path: Path) -> None:
    write_text_shards(tmp_path / "shards", [served.sentences[:4]])
    small = ["engine.vllm.engine={num_gpu_blocks_override: 1}", "engine.vllm.max_model_len=160"]
    code, out = run(job(served.folder, tmp_path / "shards", tmp_path / "labels", *small))
    assert code == 2
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert "vLLM failed" in line
    assert "cache blocks" in line
    assert not kept_files(tmp_path)


def test_a_missing_tokenizer_is_said_before_anything_starts(served: "Served", tmp_path: Path) -> None:
    write_text_shards(tmp_path / "shards", [served.sentences[:4]])
    (tmp_path / "model").mkdir()
    for path in served.folder.iterdir():
        if not path.name.startswith("tokenizer"):
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    code, out = run(job(served.folder, tmp_path / "shards", tmp_path / "labels", f"engine.path={tmp_path / 'model'}"))
    assert code == 2
    assert "has no tokenizer" in out
    assert not (tmp_path / "translations").exists()
