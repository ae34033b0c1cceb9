"""`make bench`: every benchmark of this folder, or those that are named, as a table and as JSON.

python tests/benchmarks [NAME ...] [--json FILE]
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
PEERS = ("torchaudio", "kaldi-native-fbank", "lhotse", "webdataset", "transformers", "speechbrain")
OURS = ("xlst-ray", "torch", "ray", "pyarrow", "numpy", "soundfile")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--json", default="runs/bench.json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(NAMES)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

    import torch  # after the number of threads is settled

    torch.set_num_threads(1)
    rows = []
    for name in arguments.names or NAMES:
        found = importlib.import_module(f"bench_{name}").bench()
        for _, part in groupby(found, key=lambda row: row.bench):
            print(table(list(part)), flush=True)
        rows += found
    about = machine()
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['threads']} thread, load {about['load']}; {about['date']}")
    file = Path(arguments.json)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    return 0


def table(rows: list) -> str:
    """The rows of a benchmark as Markdown, to be kept in RESULTS.md."""
    lines = [f"\n### {rows[0].bench}\n", "| side | per CPU-s | CPU s median (min) | wall s median (min) | ours is | |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        cpu, wall = (f"{statistics.median(times):.3g} ({min(times):.3g})" for times in (row.cpu, row.wall))
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        lines.append(f"| {row.side} | {row.speed:.4g} {row.unit} | {cpu} | {wall} | {ratio} | {row.note} |")
    return "\n".join(lines)


def machine() -> dict:
    """What the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": 1,
        "load": [round(value, 1) for value in os.getloadavg()],
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in (*OURS, *PEERS)}},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
