"""vLLM in the job under kill -9: of its driver, of its engine, and of the process that keeps what comes."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest
from text_shards import read_labels, write_text_shards
from vllm_jobs import MINUTES, job, kept_files

if TYPE_CHECKING:
    from conftest import Served

BUCKETS = 16
PROCESSES = {
    "engine core": "EngineCore",
    "replica": "MapBatches(Whole)",
    "keeper of portions": "_Keeper",
}


class Labelled:
    """A job over 3,000 sentences, and what is to be true of its labels at the end."""

    def __init__(self, served: "Served", folder: Path) -> None:
        self.folder = folder
        self.sentences = [f"{number} {sentence}" for number in range(10) for sentence in served.sentences]
        shards = [self.sentences[start : start + 500] for start in range(0, len(self.sentences), 500)]
        write_text_shards(folder / "shards", shards)
        self.command = job(served.folder, folder / "shards", folder / "labels", f"buckets={BUCKETS}")

    def interrupt(self, victim: Callable[[psutil.Process], bool]) -> tuple[int, dict[Path, int]]:
        """Run the job and kill a process of it once something is kept: its exit code, and what was kept by then."""
        with subprocess.Popen(self.command) as process:
            while not (before := kept_files(self.folder)):
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)  # between two looks
            driver = psutil.Process(process.pid)
            killed = [found for found in (driver, *driver.children(recursive=True)) if victim(found)]
            for found in killed[:1]:
                os.kill(found.pid, signal.SIGKILL)
            assert killed, "no such process"
            assert len(before) < BUCKETS, "too late"
            return process.wait(60 * MINUTES), before

    def check(self, before: dict[Path, int]) -> None:
        """Every row is there once; what was kept is as it was, and none of it was sent again."""
        after = kept_files(self.folder)
        assert before.items() <= after.items()
        texts = [text for path in after for text in pq.read_table(path)["text"].to_pylist()]
        assert len(texts) == len(set(texts)) == len(set(self.sentences)), "each sentence is kept once"
        rows = read_labels(self.folder / "labels")
        assert len(rows) == len(self.sentences)
        assert {row["error"] for row in rows.values() if row["translation"] is None} <= {"too long"}


@pytest.mark.parametrize("victim", PROCESSES)
def test_a_process_that_is_killed_costs_what_was_under_way(served: "Served", tmp_path: Path, victim: str) -> None:
    labelled = Labelled(served, tmp_path)
    code, before = labelled.interrupt(lambda process: PROCESSES[victim] in named(process))
    assert code == 0
    labelled.check(before)


def test_after_the_driver_is_killed_the_same_command_does_what_is_missing(served: "Served", tmp_path: Path) -> None:
    labelled = Labelled(served, tmp_path)
    code, _ = labelled.interrupt(lambda process: process.cmdline() == labelled.command)
    assert code == -signal.SIGKILL
    assert not list((tmp_path / "labels").glob("*/*.parquet")), "no label file before all is translated"
    before = kept_files(tmp_path)
    known = sum(pq.read_metadata(path).num_rows for path in before)
    assert 0 < known < len(labelled.sentences)
    subprocess.run(labelled.command, check=True, timeout=60 * MINUTES)
    labelled.check(before)
    counts = json.loads((tmp_path / "labels" / "manifest.json").read_text())["counts"]["translation"]
    assert counts["found"] >= known, "what the workers still kept, too"
    assert counts["found"] + counts["sentences"] == len(labelled.sentences)


def named(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"
    except psutil.Error:  # it has ended
        return ""
