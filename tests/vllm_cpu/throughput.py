"""Engine vllm against plain `vllm.LLM.generate` over the same prompts, start-up aside. Run by `make bench-vllm`.

With two models that translate alike: the one of the tests, whose 0.2M parameters cost little more than what brings
sentences to them, and the same with 13M, still a hundredth of the smallest LLM that is used to translate.

Processor seconds stand beside the rates: on a machine that others use, too, they tell more. There Ray's workers, which
it starts with a lower priority (nice 15), would starve where vLLM alone does not: here both have the usual one.
SENTENCES (a third of them for the larger model) and RUNS in the environment set how much is done.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from conftest import make_served
from processor_time import ProcessorTime
from text_shards import read_labels, write_text_shards
from vllm_jobs import job

from xlst_ray.cluster.llm import BATCHES_A_BLOCK
from xlst_ray.mt.llm_options import VllmOptions
from xlst_ray.mt.lm import load_lm, save_lm
from xlst_ray.mt.lm_info import read_info

HERE = Path(__file__).parent
SENTENCES = int(os.environ.get("SENTENCES", "3000"))
RUNS = int(os.environ.get("RUNS", "3"))
SHARD_ROWS = 500
HEAVY_LAYERS, HEAVY_FFN = 8, 8192
UNCOUNTED = BATCHES_A_BLOCK * VllmOptions().batch_size  # sentences of the first block, with which the time begins
os.environ.setdefault("RAY_worker_niceness", "0")
SHOWN = 0.02  # share of the processor time that a process must have had, to be told


@dataclass(frozen=True)
class Run:
    """Seconds from the first answer to the last translation that is kept, CPU-seconds by process, translations."""

    seconds: float
    cpu: dict[str, float]
    translations: list[str | None]

    @property
    def rate(self) -> float:
        """Sentences a second."""
        return len(self.translations) / self.seconds

    def line(self, side: str) -> str:
        total = sum(self.cpu.values())
        told = ", ".join(f"{name[:60]} {used:.1f}" for name, used in self.cpu.items() if used > SHOWN * total)
        return f"{side}: {self.rate:.0f} sentences/s, {total:.1f} CPU-s ({told})"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as place:
        folder = Path(place)
        served = make_served(folder)
        _compare(served.folder, served.sentences, SENTENCES, folder)
        _compare(_heavier(served.folder, folder / "heavier"), served.sentences, SENTENCES // 3, folder)


def _heavier(model_folder: Path, out: Path) -> Path:
    """A larger model that computes the same: what its layers have more is zero, and so adds nothing."""
    model, tokenizer = load_lm(model_folder)
    config = type(model.config)(
        **{**model.config.to_dict(), "num_hidden_layers": HEAVY_LAYERS, "intermediate_size": HEAVY_FFN}
    )
    heavier, known = type(model)(config), model.state_dict()
    with torch.no_grad():
        for name, weight in heavier.state_dict().items():
            weight.zero_()
            if name in known:
                weight[tuple(slice(length) for length in known[name].shape)] = known[name]
    save_lm(out, heavier, tokenizer, read_info(str(model_folder)))
    return out


def _compare(model: Path, unseen: Sequence[str], count: int, folder: Path) -> None:
    sentences = [f"{number // len(unseen)} {unseen[number % len(unseen)]}" for number in range(count)]
    shards = folder / f"shards-{count}"
    write_text_shards(shards, [sentences[start : start + SHARD_ROWS] for start in range(0, count, SHARD_ROWS)])
    ours, plain = [], []
    for number in range(RUNS):
        ours.append(_ours(model, shards, count, folder / f"{model.name}-{number}" / "labels"))
        plain.append(_plain(model, folder / "plain.json", sentences))
        same = sum(map(str.__eq__, map(str, ours[-1].translations), map(str, plain[-1].translations)))
        assert same > 0.99 * count, f"only {same} of {count} translations are the same"
        print(f"run {number}, {same} translations the same\n  {ours[-1].line('engine vllm')}", flush=True)
        print(f"  {plain[-1].line('vllm.LLM.generate')}", flush=True)
    rates = [statistics.median(run.rate for run in side) for side in (ours, plain)]
    cpu = [statistics.median(sum(run.cpu.values()) for run in side) for side in (ours, plain)]
    parameters = sum(weight.numel() for weight in load_lm(model)[0].parameters())
    print(
        f"{datetime.date.today()}: {parameters / 1e6:.1f}M parameters, {count} sentences, medians of {RUNS} runs:"
        f" engine vllm {rates[0]:.0f} sentences/s, vllm.LLM.generate {rates[1]:.0f}, ratio {rates[0] / rates[1]:.2f};"
        f" CPU-s {cpu[0]:.1f} and {cpu[1]:.1f}, ratio {cpu[1] / cpu[0]:.2f}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _ours(model: Path, shards: Path, count: int, out: Path) -> Run:
    cpu: dict[str, float] = {}
    with subprocess.Popen(job(model, shards, out), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if "vLLM is ready" in line:
                watch = ProcessorTime(process.pid)
            if f" {count:,}/{count:,} sentences" in line:
                cpu = watch.stop()
    assert process.returncode == 0
    seconds = json.loads((out / "manifest.json").read_text())["counts"]["translation"]["engine_seconds"]
    seconds *= count / (count - UNCOUNTED)
    rows = sorted(read_labels(out).items(), key=lambda row: [int(part) for part in row[0].split("-")])
    return Run(seconds, cpu, [row["translation"] for _, row in rows])


def _plain(model: Path, out: Path, sentences: Sequence[str]) -> Run:
    command = [sys.executable, str(HERE / "plain.py"), str(model), str(out)]
    subprocess.run(command, input=json.dumps(sentences), text=True, check=True)
    result = json.loads(out.read_text())
    return Run(result["seconds"], result["cpu"], result["translations"])


if __name__ == "__main__":
    main()
