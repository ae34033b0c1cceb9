"""Engine vllm against plain `vllm.LLM.generate` over the same prompts, start-up aside. Run by `make bench-vllm`."""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import Served, make_served
from test_engines import job
from text_shards import read_labels, write_text_shards

HERE = Path(__file__).parent
REPEATS = 10  # of the sentences, spelled apart, so that the run is long against its ends
RUNS = 3
SHARD_ROWS = 500


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as place:
        folder = Path(place)
        served = make_served(folder)
        sentences = [f"{number} {sentence}" for number in range(REPEATS) for sentence in served.sentences]
        parts = [sentences[start : start + SHARD_ROWS] for start in range(0, len(sentences), SHARD_ROWS)]
        write_text_shards(folder / "shards", parts)
        ours, plain = [], []
        for number in range(RUNS):
            seconds, mine = _ours(served, folder, number)
            ours.append(len(sentences) / seconds)
            seconds, others = _plain(served, folder / "plain.json", sentences)
            plain.append(len(sentences) / seconds)
            same = sum(left == right for left, right in zip(mine, others, strict=True))
            assert same > 0.99 * len(sentences), f"only {same} of {len(sentences)} translations are the same"
            print(f"run {number}: ours {ours[-1]:.0f} sentences/s, plain {plain[-1]:.0f}, {same} translations the same")
    mine, other = statistics.median(ours), statistics.median(plain)
    print(
        f"{datetime.date.today()}: {len(sentences)} sentences, medians of {RUNS} runs in turn: engine vllm {mine:.0f}"
        f" sentences/s, vllm.LLM.generate {other:.0f}, ratio {mine / other:.2f}; load {os.getloadavg()[0]:.1f}"
    )


def _ours(served: Served, folder: Path, number: int) -> tuple[float, list[str | None]]:
    """Seconds from the engine's first answer to the last translation that is kept, and the translations by row."""
    out = folder / f"run-{number}" / "labels"
    subprocess.run(job(served, folder / "shards", out), check=True)
    seconds = json.loads((out / "manifest.json").read_text())["counts"]["translation"]["engine_seconds"]
    rows = sorted(read_labels(out).items(), key=lambda row: [int(part) for part in row[0].split("-")])
    return seconds, [row["translation"] for _, row in rows]


def _plain(served: Served, out: Path, sentences: list[str]) -> tuple[float, list[str | None]]:
    command = [sys.executable, str(HERE / "plain.py"), str(served.folder), str(out)]
    subprocess.run(command, input=json.dumps(sentences), text=True, check=True)
    result = json.loads(out.read_text())
    return result["seconds"], result["translations"]


if __name__ == "__main__":
    main()
