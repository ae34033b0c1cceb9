"""Engine vllm against plain `vllm.LLM.generate` over the same prompts, start-up aside. Run by `make bench-vllm`.

Processor seconds stand beside the rates: on a machine that others use, too, they tell more. There Ray's workers, which
it starts with a lower priority (nice 15), would starve where vLLM alone does not: here both have the usual one.
SENTENCES and RUNS in the environment set how much is done.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conftest import Served, make_served
from processor_time import ProcessorTime
from text_shards import read_labels, write_text_shards
from vllm_jobs import job

HERE = Path(__file__).parent
SENTENCES = int(os.environ.get("SENTENCES", "3000"))
RUNS = int(os.environ.get("RUNS", "3"))
SHARD_ROWS = 500
os.environ.setdefault("RAY_worker_niceness", "0")
SHOWN = 0.02  # share of the processor time that a process must have had, to be told


@dataclass(frozen=True)
class Run:
    """Seconds from the first answer to the last translation that is kept, CPU-seconds by process, translations."""

    seconds: float
    cpu: dict[str, float]
    translations: list[str | None]

    def line(self, side: str) -> str:
        total = sum(self.cpu.values())
        told = ", ".join(f"{name[:60]} {used:.1f}" for name, used in self.cpu.items() if used > SHOWN * total)
        return f"{side}: {SENTENCES / self.seconds:.0f} sentences/s, {total:.1f} CPU-s ({told})"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as place:
        folder = Path(place)
        served = make_served(folder)
        sentences = [f"{number // len(served.sentences)} {served.sentences[number % len(served.sentences)]}"
                     for number in range(SENTENCES)]  # fmt: skip
        parts = [sentences[start : start + SHARD_ROWS] for start in range(0, SENTENCES, SHARD_ROWS)]
        write_text_shards(folder / "shards", parts)
        ours, plain = [], []
        for number in range(RUNS):
            ours.append(_ours(served, folder, number))
            plain.append(_plain(served, folder / "plain.json", sentences))
            same = sum(map(str.__eq__, map(str, ours[-1].translations), map(str, plain[-1].translations)))
            assert same > 0.99 * SENTENCES, f"only {same} of {SENTENCES} translations are the same"
            print(f"run {number}, {same} translations the same\n  {ours[-1].line('engine vllm')}", flush=True)
            print(f"  {plain[-1].line('vllm.LLM.generate')}", flush=True)
    rates = [statistics.median(SENTENCES / run.seconds for run in side) for side in (ours, plain)]
    cpu = [statistics.median(sum(run.cpu.values()) for run in side) for side in (ours, plain)]
    print(
        f"{datetime.date.today()}: {SENTENCES} sentences, medians of {RUNS} runs in turn: engine vllm {rates[0]:.0f}"
        f" sentences/s, vllm.LLM.generate {rates[1]:.0f}, ratio {rates[0] / rates[1]:.2f}; CPU-s {cpu[0]:.1f} and"
        f" {cpu[1]:.1f}, ratio {cpu[1] / cpu[0]:.2f}; load {os.getloadavg()[0]:.1f}"
    )


def _ours(served: Served, folder: Path, number: int) -> Run:
    out = folder / f"run-{number}" / "labels"
    cpu: dict[str, float] = {}
    with subprocess.Popen(job(served.folder, folder / "shards", out), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if "vLLM is ready" in line:
                watch = ProcessorTime(process.pid)
            if f" {SENTENCES:,}/{SENTENCES:,} sentences" in line:
                cpu = watch.stop()
    assert process.returncode == 0
    seconds = json.loads((out / "manifest.json").read_text())["counts"]["translation"]["engine_seconds"]
    rows = sorted(read_labels(out).items(), key=lambda row: [int(part) for part in row[0].split("-")])
    return Run(seconds, cpu, [row["translation"] for _, row in rows])


def _plain(served: Served, out: Path, sentences: list[str]) -> Run:
    command = [sys.executable, str(HERE / "plain.py"), str(served.folder), str(out)]
    subprocess.run(command, input=json.dumps(sentences), text=True, check=True)
    result = json.loads(out.read_text())
    return Run(result["seconds"], result["cpu"], result["translations"])


if __name__ == "__main__":
    main()
