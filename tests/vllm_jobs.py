"""Jobs of pseudo-labels by vLLM in the job, as tests and benchmarks of `tests/vllm_cpu` start them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

JOB = Path(__file__).parent.parent / "jobs" / "pseudo_label.py"
MINUTES = 15  # that nothing here may take, a loaded machine considered


def job(model: Path, shards: Path, out: Path, *further: str) -> list[str]:
    return [
        sys.executable, str(JOB), f"shards={shards}", f"out={out}", "target=fi", "engine.engine=vllm",
        f"engine.path={model}", "engine.prompt.preset=trained-lm", "engine.max_new_tokens_ratio=1.0",
        "engine.vllm.dtype=float32", "engine.vllm.max_num_seqs=32", "engine.vllm.timeout=600", "cluster.address=local",
        "cluster.cpus=2", "cluster.translator_cpus=0.5", "scores=false", *further,
    ]  # fmt: skip


def run(command: Sequence[str]) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60 * MINUTES
    )
    print(done.stdout)
    return done.returncode, done.stdout


def kept_files(folder: Path) -> dict[Path, int]:
    """Files of translations, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("translations/en-fi-*/*.parquet")}
