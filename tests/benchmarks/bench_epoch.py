"""Training as `jobs/train.py` does it, shards to updates: waiting for data, padding, and what a second process costs.

An update is the same work in one process and in two (`cluster.ranks=2`). Its CPU-seconds are the difference between a
long and a short run, which both start up, so that what is the same in both falls out. Waiting is told of the first
updates, in which the stream starts, and of the others.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import tones
from harness import Row
from processes import Watched, watch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xlst_ray.audio.decode import encode_flac

ROOT = Path(__file__).parents[2]
UTTERANCES = 384
SHORT, LONG = 4, 20  # updates: an epoch has some 13
LETTER_SECONDS = 0.25
TOLERANCE = 1e-3
WORKERS = {"in one process": 0, "Ray, 1 worker": 1, "Ray, 2 workers": 2}
PEERS = {"Ray, 1 worker": "in one process", "Ray, 2 workers": "Ray, 1 worker"}


def bench() -> list[Row]:
    rows: dict[str, Row] = {}
    losses = {}
    with tempfile.TemporaryDirectory(prefix="xb-") as temporary:
        shards = _write(Path(temporary) / "data")
        for side, workers in WORKERS.items():
            short, _ = _train(shards, Path(temporary) / f"{workers}-{SHORT}", workers, SHORT)
            long, curves = _train(shards, Path(temporary) / f"{workers}-{LONG}", workers, LONG)
            cpu, wall = (_of_training(long) - _of_training(short)), long.wall - short.wall
            losses[side] = curves["train/loss"][-1]
            first, *others = curves["speed/data_wait"]
            note = f"waiting for data {first:.1%} of the first {SHORT} updates, {np.mean(others):.2%} of the others; "
            note += f"padding {np.mean(curves['speed/padding']):.1%}; loss {losses[side]:.4f}; "
            note += f"{long.cpu - short.cpu:.1f} CPU-s of all processes"
            peer = PEERS.get(side)
            ratio = None if peer is None else rows[peer].cpu[0] / cpu
            rows[side] = Row(TITLE, side, LONG - SHORT, "updates", (wall,), (cpu,), peer, ratio, note)
            print(f"{side}: {cpu:.2f} CPU-s, {note}", flush=True)
    assert max(losses.values()) - min(losses.values()) < TOLERANCE, losses
    return list(rows.values())


TITLE = (
    f"training, size xs, {UTTERANCES} utterances of 2 to 10 s, two batches an update, losses the same to {TOLERANCE:g}"
)


def _write(folder: Path) -> str:
    """Tones that spell letters, of lengths as speech has them, by `jobs/prepare.py`; the folder of their shards."""
    corpus, rng = folder / "corpus", np.random.default_rng(0)
    corpus.mkdir(parents=True)
    for split, count in (("train", UTTERANCES), ("dev", 8)):
        with (corpus / f"{split}.jsonl").open("w") as lines:
            for number in range(count):
                letters = int(np.clip(rng.lognormal(1.5, 0.4), 2, 10) / LETTER_SECONDS)
                text = "".join(rng.choice(list(tones.LETTERS), letters))
                name = f"{split}-{number}.flac"
                (corpus / name).write_bytes(encode_flac(tones.wave(text, number, LETTER_SECONDS)))
                lines.write(json.dumps({"audio": name, "text": text}) + "\n")
    command = [sys.executable, str(ROOT / "jobs" / "prepare.py"), "corpus.reader=manifest", "corpus.lang=en"]
    command += [f"corpus.path={corpus}", f"out={folder}/shards", "cluster.workers=0"]
    watch(command, {**os.environ, "PYTHONPATH": str(ROOT)})
    return f"{folder}/shards"


def _train(shards: str, out: Path, workers: int, updates: int) -> tuple[Watched, dict[str, list[float]]]:
    """What a training took, and its curves, with a point every `SHORT` updates."""
    out.mkdir()
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), f"shards={shards}", f"out={out}/model"]
    command += [
        "model.size=xs",
        "pieces.kind=char",
        "batch.max_frames=8000",
        f"train.updates={updates}",
    ]
    command += ["train.warmup=2", "train.label_smoothing=0.0", f"train.validate_every={updates}"]
    command += [f"train.log_every={SHORT}", f"cluster.workers={workers}", "cluster.ranks=2"]
    command += ["cluster.worker_cpus=0.75", "cluster.loader_cpus=0.25", "cluster.cpus=2"]
    about = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(out)}
    seen = watch(command, {**os.environ, **about}, every=0.2)
    board = EventAccumulator(f"{out}/model/tensorboard").Reload()
    names = ("train/loss", "speed/data_wait", "speed/padding")
    return seen, {name: [event.value for event in board.Scalars(name)] for name in names}


def _of_training(seen: Watched) -> float:
    """CPU-seconds of the processes that train; without Ray that is the only one."""
    if not any(name.startswith("ray::") for name in seen.names.values()):
        return seen.cpu
    return sum(seen.seconds[pid] for pid, name in seen.names.items() if name.startswith("ray::RayTrainWorker"))
