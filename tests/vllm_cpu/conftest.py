"""The demo's translation model, smaller, and what every engine is to make of it. Run by `make test-vllm`."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")

import pytest
import torch

from xlst_ray.demo.corpus import parallel_pairs
from xlst_ray.demo.options import DemoOptions
from xlst_ray.mt.lm import LMOptions, build_lm, save_lm, train_tokenizer
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.mt.lm_task import LMTask
from xlst_ray.train.loop import Observer, fit
from xlst_ray.train.options import TrainOptions

SENTENCES = 300
if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True)
class Served:
    """A model folder, unseen English sentences, and transformers' greedy translations of them (none: cut off)."""

    folder: Path
    sentences: list[str]
    greedy: list[str | None]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return make_served(tmp_path_factory.mktemp("served"))


def make_served(place: Path) -> Served:
    """Train the model below a folder; a minute."""
    torch.set_num_threads(1)
    pairs = list(dict.fromkeys(parallel_pairs(DemoOptions(mt_pairs=2000 + SENTENCES))))
    seen, unseen = pairs[:-SENTENCES], pairs[-SENTENCES:]
    options = LMOptions(dim=64, layers=2, heads=2, ffn=192, vocabulary=500, dropout=0.0, max_length=160)
    tokenizer = train_tokenizer((side for pair in seen for side in pair), options)
    task = LMTask(build_lm(options, tokenizer, seed=0), tokenizer, LMInfo("en", "fi"), seen, unseen[:50])
    train = TrainOptions(updates=200, lr=4e-3, warmup=40, clip_norm=1.0, validate_every=200, log_every=100)
    fit(task, train, place / "checkpoints", Observer(lambda _: None, lambda *_: None), seed=0)
    folder = place / "model"
    save_lm(folder, task.model, tokenizer, LMInfo("en", "fi"))
    sentences = [source for source, _ in unseen]
    return Served(folder, sentences, _greedy(folder, sentences))


def _greedy(folder: Path, sentences: list[str]) -> list[str | None]:
    """The oracle: transformers alone, one sentence at a time, by the prompt as the model's file has it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[str | None] = []
    for sentence in sentences:
        inputs = tokenizer(f"{sentence}<sep>", return_tensors="pt")
        limit = len(sentence) + 16
        written = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=limit)
        tokens = written[0, inputs["input_ids"].shape[1] :].tolist()
        ended = tokens[-1] == tokenizer.eos_token_id
        found.append(" ".join(tokenizer.decode(tokens, skip_special_tokens=True).split()) if ended else None)
    return found
