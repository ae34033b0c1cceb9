"""Many short clips through the whole data plane: CPU-seconds a row, and the memory of every process over time.

SCALE_ROWS sets the numbers of clips of 0.3 s, such as 1000000; two of them show what grows with the number of rows. The
plot of the last run lies in runs/bench-memory.svg.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import Row
from processes import Watched, watch

from xlst_ray.audio.decode import encode_flac

ROOT = Path(__file__).parents[2]
ROWS = [int(number) for number in os.environ.get("SCALE_ROWS", "10000,100000").split(",")]
RECORDINGS = 200  # different ones, each met again and again
SECONDS = 0.3
SHOWN = 100  # MiB resident that a process must have had, to be in the plot


def bench() -> list[Row]:
    rows = []
    for count in ROWS:
        runs: dict[str, Watched] = {}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _write_corpus(folder / "corpus", count)
            for name, command in _steps(folder).items():
                title = f"{name}, {count:,} rows"
                runs[title] = seen = _watched(command, folder / name)
                first, second = (peak / 2**30 for peak in seen.peaks())
                memory = f"resident {first:.2f} GiB at most in the first half, {second:.2f} in the second"
                note = f"{1e3 * seen.cpu / count:.2f} ms of CPU a row; {memory}"
                row = Row(f"scale: clips of {SECONDS} s", title, count, "rows", (seen.wall,), (seen.cpu,), note=note)
                print(f"{row.side}: {seen.wall:.0f} s, {row.note}", flush=True)  # a run may take an hour
                _plot(runs)
                rows.append(row)
    return rows


def _steps(folder: Path) -> dict[str, list[str]]:
    """The commands, one after the other; each reads what the one before wrote."""
    jobs, shards = ROOT / "jobs", folder / "shards"
    prepare = ["corpus.reader=manifest", "corpus.lang=en", f"corpus.path={folder}/corpus", "cluster.cpus=2"]
    engine = ["engine.engine=phrasebook", f"engine.table={folder}/corpus/phrases.tsv", "scores=false"]
    labels = ["target=fi", *engine, "cluster.cpus=2", f"shards={shards}", f"out={folder}/labels"]
    return {
        "prepare": [str(jobs / "prepare.py"), *prepare, f"out={shards}"],
        "label": [str(jobs / "pseudo_label.py"), *labels],
        "epoch": [str(Path(__file__).with_name("epoch.py")), str(shards), str(folder / "index.parquet")],
    }


def _watched(command: list[str], temporary: Path) -> Watched:
    """A command in a Ray cluster of its own, whose object store must not have spilled to the disk."""
    temporary.mkdir()
    about = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(temporary)}
    seen = watch([sys.executable, *command], {**os.environ, **about})
    logs = [path.read_text(errors="replace") for path in temporary.glob("session_2*/logs/raylet.*")]
    assert any(logs), "Ray's log, which would tell of spilling, is not where it was"
    assert not any("Spilled" in log for log in logs), "objects were spilled to the disk"
    return seen


def _write_corpus(folder: Path, rows: int) -> None:
    """Tones in little noise, whose FLAC is small; a table of translations for each tenth sentence."""
    folder.mkdir(parents=True)
    rng, times = np.random.default_rng(0), np.arange(int(SECONDS * 16_000)) / 16_000
    for number in range(RECORDINGS):
        tone = 0.1 * np.sin(2 * np.pi * (200 + 5 * number) * times)
        wave = tone + 5e-4 * rng.standard_normal(len(times))
        (folder / f"{number}.flac").write_bytes(encode_flac(wave.astype(np.float32)))
    with (folder / "train.jsonl").open("w") as file, (folder / "phrases.tsv").open("w") as table:
        table.write("en\tfi\n")
        for number in range(rows):
            row = {"id": f"u{number}", "audio": f"{number % RECORDINGS}.flac", "text": f"row {number}"}
            file.write(json.dumps(row) + "\n")
            if number % 10 == 0 and number < 100_000:
                table.write(f"row {number}\trivi {number}\n")


def _plot(runs: dict[str, Watched]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6 * len(runs)), layout="constrained")
    for axes, (title, seen) in zip(figure.subplots(len(runs), 1, squeeze=False)[:, 0], runs.items(), strict=True):
        for pid, samples in seen.resident.items():
            if max(samples.values()) > SHOWN * 2**20:
                mib = [resident / 2**20 for resident in samples.values()]
                axes.plot(list(samples), mib, linewidth=1, label=seen.names[pid][:30])
        axes.set(title=title, xlabel="s", ylabel="resident, MiB", ylim=(0, None))
        axes.legend(fontsize=6, ncols=2)
    target = ROOT / "runs" / "bench-memory.svg"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target)
