"""Preparation loses its driver, a worker or a node by kill -9: it goes on and ends with the same rows, each once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import tones
from process_tree import descendants

from xlst_ray import storage
from xlst_ray.audio.decode import encode_flac
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.shards.files import shard_urls
from xlst_ray.shards.options import ShardOptions
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare
from xlst_ray.stages.stage import run_stage

sys.path.insert(0, str(Path(__file__).parent))
from simulated import ASKED, Nodes, wait_for

JOB = Path(__file__).parents[2] / "jobs" / "prepare.py"
ROWS = 150  # a shard each, so that what is killed is in the middle of them


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(ROWS):
        text = tones.LETTERS[number % 7 : number % 7 + 2]
        storage.write_bytes(str(folder / f"{number}.flac"), encode_flac(tones.wave(text, seed=number)))
        lines.append(f'{{"audio": "{number}.flac", "text": "{text}", "id": "u{number}"}}')
    storage.write_lines(str(folder / "train.jsonl"), [*lines, '{"audio": "none.flac", "text": "x", "id": "lost"}'])
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepared(corpus, out, ClusterOptions(workers=0))
    return out


def prepared(corpus: Path, out: Path, cluster: ClusterOptions) -> None:
    options = PrepareOptions(
        corpus=CorpusOptions(reader="manifest", lang="fi", path=str(corpus)), shards=ShardOptions(rows_per_shard=1)
    )
    run_stage(describe_prepare(options), str(out), lambda folder: prepare(options, folder, cluster))


def rows(out: Path) -> pa.Table:
    return pa.concat_tables([storage.read_table(url) for url in shard_urls(str(out), "train")])


def assert_same(out: Path, undisturbed: Path) -> None:
    assert rows(out)["id"].to_pylist() == [f"u{number}" for number in range(ROWS)]
    assert rows(out).equals(rows(undisturbed))
    counts = [storage.read_json(f"{folder}/manifest.json")["counts"]["train"] for folder in (out, undisturbed)]
    assert counts[0] == counts[1]
    assert counts[0]["rejected"] == {"missing": 1}


def finished_shards(out: Path) -> dict[Path, int]:
    """The files that make a shard count as done, with the time when they were written."""
    return {path: path.stat().st_mtime_ns for path in (out / "train").glob("shard-*.counts.json")}


@pytest.mark.parametrize("where", ["cluster.workers=0", pytest.param("cluster.cpus=2", marks=pytest.mark.cluster)])
def test_its_driver_is_killed(
    where: str,
    corpus: Path,
    undisturbed: Path,
    tmp_path: Path,
    kill_when: Callable[[Sequence[str], Callable[[], bool]], None],
) -> None:
    out = tmp_path / "out"
    options = ["corpus.reader=manifest", "corpus.lang=fi", f"corpus.path={corpus}", "shards.rows_per_shard=1", where]
    command = [sys.executable, str(JOB), f"out={out}", *options]
    kill_when(command, lambda: len(finished_shards(out)) >= 2)
    assert not (out / "manifest.json").exists()
    done = finished_shards(out)
    assert len(done) < ROWS
    subprocess.run(command, check=True)
    assert {path: finished_shards(out)[path] for path in done} == done, "a finished shard is not made again"
    assert_same(out, undisturbed)


def test_workers_are_killed(corpus: Path, undisturbed: Path, tmp_path: Path, ray_cluster: None) -> None:
    out, killed, over = tmp_path / "out", set[int](), threading.Event()

    def kill_two() -> None:
        while len(killed) < 2 and not over.is_set():
            for pid in at_work():
                if pid not in killed and len(finished_shards(out)) > 10 * len(killed):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                    break
            time.sleep(0.005)  # between two looks

    killing = threading.Thread(target=kill_two, daemon=True)
    killing.start()
    prepared(corpus, out, ClusterOptions())
    over.set()
    killing.join()
    assert len(killed) == 2, "they were killed while there was work"
    assert_same(out, undisturbed)


def at_work() -> Iterator[int]:
    """Processes below this one that carry out a task of Ray Data's; Ray names them by what they do."""
    for pid in descendants(os.getpid()):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Map"):
            yield pid


@pytest.mark.cluster
def test_a_node_is_lost(
    corpus: Path, undisturbed: Path, tmp_path: Path, nodes: Nodes, capfd: pytest.CaptureFixture[str]
) -> None:
    out, done = tmp_path / "out", list[int]()
    nodes.have(data=2)

    def lose() -> None:
        wait_for(lambda: len(finished_shards(out)) >= 5)
        nodes.lose(nodes.one())
        done.append(len(finished_shards(out)))

    losing = threading.Thread(target=lose, daemon=True)
    losing.start()
    prepared(corpus, out, ASKED)
    losing.join()
    assert done[0] < ROWS, "it was lost while there was work"
    assert_same(out, undisturbed)
    assert "1 nodes went away meanwhile" in capfd.readouterr().out
