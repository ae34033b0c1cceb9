"""The same jobs on a bucket: a real S3 interface on loopback, found and entered by the environment alone."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest
import tones
from pyarrow import fs
from text_shards import write_text_shards

from xlst_ray import storage
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.corpora.convert import convert_shard, plan_shards
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.labels import human_labels
from xlst_ray.mt.options import EngineOptions
from xlst_ray.shards.files import read_shard, shard_urls
from xlst_ray.shards.options import ShardOptions
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling
from xlst_ray.stages.stage import Stage, run_stage

pytest.importorskip("moto.server", reason="moto's server plays the object store")
SECRET = "wJalrXUtnFEMI-a-secret-of-the-tests"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
            assert server.stderr is not None
            drain = Thread(target=server.stderr.read)
            try:
                for line in server.stderr:
                    if b"Running on" in line:
                        break
                else:
                    raise AssertionError("the server did not start")
                # it logs every request: a pipe that nobody empties would stop it after some hundred
                drain.start()
                fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir("tests")
                yield "s3://tests"
            finally:
                server.kill()
                if drain.ident is not None:
                    drain.join()


def test_files_are_written_read_listed_and_removed(bucket: str) -> None:
    folder = storage.join(bucket, "files")
    assert not storage.exists(folder)
    assert storage.list_files(folder) == []
    storage.write_json(storage.join(folder, "a b", "é.json"), {"ü": 1})
    storage.write_lines(storage.join(folder, "c.txt"), ["x", "y"])
    assert storage.exists(folder)
    assert storage.read_json(f"{folder}/a b/é.json") == {"ü": 1}
    assert storage.list_files(folder) == [f"{folder}/c.txt"]
    assert storage.list_files(f"{folder}/", recursive=True) == [f"{folder}/a b/é.json", f"{folder}/c.txt"]
    assert storage.list_files(folder, ".json", recursive=True) == [f"{folder}/a b/é.json"]
    assert list(storage.sizes([f"{folder}/c.txt", f"{folder}/none"])) == [4, None]
    storage.delete(f"{folder}/c.txt")
    assert storage.list_files(folder, recursive=True) == [f"{folder}/a b/é.json"]
    storage.delete(folder)
    storage.delete(folder)
    assert not storage.exists(f"{folder}/a b/é.json")


def test_a_failed_write_leaves_the_old_object(bucket: str) -> None:
    url = storage.join(bucket, "whole.txt")
    storage.write_bytes(url, b"old")

    def write() -> None:
        with storage.open_output(url) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert storage.read_bytes(url) == b"old"


def test_what_the_user_can_mend_is_said_without_the_secret(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/one.txt", b"1")
    with pytest.raises(DataError, match="no such file"):
        storage.read_bytes(f"{bucket}/none")
    with pytest.raises(DataError, match="is a file, not a folder"):
        storage.list_files(f"{bucket}/one.txt")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        storage.read_table(f"{bucket}/one.txt")
    with pytest.raises(DataError, match=r"cannot be written.*bucket does not exist") as raised:
        storage.write_bytes("s3://no-such-bucket-here/x", b"1")
    assert SECRET not in str(raised.value)


def test_folders_are_copied_both_ways(bucket: str, tmp_path: Path) -> None:
    tones.write_shards(tmp_path / "one", "train", ["ab", "cd"])
    storage.copy_folder(str(tmp_path / "one"), f"{bucket}/copy")
    with storage.local_folder(f"{bucket}/copy") as local:
        (there,) = local.rglob("*.parquet")
        assert there.read_bytes() == next((tmp_path / "one").rglob("*.parquet")).read_bytes()


def test_training_batches_are_those_of_a_local_folder(bucket: str, tmp_path: Path) -> None:
    texts = (["ab", "cd", "ef", "gh", "a"], ["bc", "de", "fg"])
    tones.write_shards(tmp_path, "train", *texts)
    storage.copy_folder(str(tmp_path), f"{bucket}/shards")
    options = BatchOptions(max_utterances=3)
    here, there = (
        list(tones.train_batches(tones.loader(folder, options=options), 1))
        for folder in (str(tmp_path), f"{bucket}/shards")
    )
    assert [batch.ids for batch in here] == [batch.ids for batch in there]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.features, other.features)


def test_a_corpus_becomes_shards_and_labels_as_it_does_on_a_disk(bucket: str, tmp_path: Path) -> None:
    """Recordings and manifest in the bucket too; what is done is not done again."""
    tables = []
    for base in (str(tmp_path), bucket):
        corpus = storage.join(base, "corpus")
        for number, text in enumerate(["ab", "cde", "f"]):
            storage.write_bytes(f"{corpus}/clips/{number} ü.flac", tones.row("x", text, tones.wave(text))["audio"])  # type: ignore[arg-type]
        storage.write_lines(
            f"{corpus}/train.jsonl",
            [
                f'{{"audio": "clips/{number} ü.flac", "text": "{text}", "translations": {{"en": "{text * 2}"}}}}'
                for number, text in enumerate(["ab", "cde", "f"])
            ]
            + ['{"audio": "clips/none.flac", "text": "x"}'],
        )
        options = CorpusOptions(reader="manifest", path=corpus, lang="fi")
        out, limits = storage.join(base, "prepared"), ShardOptions(rows_per_shard=2)
        plans = plan_shards(open_corpus(options), out, limits, corpus).urls
        counts = [convert_shard(plan, out, limits) for plan in plans]
        assert [(count["kept"], count["rejected"]) for count in counts] == [(2, {}), (1, {"missing": 1})]
        labels = storage.join(base, "labels")
        urls = shard_urls(out, "train")
        assert [human_labels(url, labels, "en")["ok"] for url in urls] == [2, 1]
        assert storage.list_files(storage.join(out, "train"), ".rejected.jsonl") == [
            f"{out}/train/shard-{number:05d}.rejected.jsonl" for number in range(2)
        ]
        tables.append(pa.concat_tables([read_shard(url, ["id", "audio", "text"]) for url in urls]))
    assert tables[0].equals(tables[1])
    written = storage.list_files(f"{bucket}/prepared", recursive=True)
    storage.delete(f"{bucket}/corpus/clips")
    assert [convert_shard(plan, f"{bucket}/prepared", limits) for plan in plans] == counts, "nothing is decoded again"
    assert storage.list_files(f"{bucket}/prepared", recursive=True) == written


def test_labels_at_the_root_of_a_bucket_keep_their_translations_in_it(bucket: str, tmp_path: Path) -> None:
    write_text_shards(f"{bucket}/text", [["a", "b"]])
    (tmp_path / "pairs.tsv").write_text("en\tfi\na\tA\nb\tB\n")
    store = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
    store.create_dir("labels")
    options = LabelOptions(engine=EngineOptions(engine="phrasebook", table=str(tmp_path / "pairs.tsv")))
    labelling = open_labelling(options, f"{bucket}/text", ["fi"], "s3://labels", None, ClusterOptions(translators=0))
    (one,) = labelling.sets
    run_stage(one.stage, one.folder, partial(labelling.write, "fi"))
    assert storage.read_table("s3://labels/train/shard-00000.parquet")["translation"].to_pylist() == ["A", "B"]
    kept = [url for url in storage.list_files("s3://labels", ".parquet", recursive=True) if "/en-fi-" in url]
    assert kept
    assert all(url.startswith("s3://labels/translations/en-fi-") for url in kept)


def test_a_stage_is_done_once(bucket: str) -> None:
    runs = []

    def work(folder: str) -> dict[str, int]:
        runs.append(folder)
        storage.write_bytes(storage.join(folder, "checkpoints", "part"), b"1")
        storage.write_bytes(storage.join(folder, "result"), b"1")
        return {"rows": 3}

    folder, stage = storage.join(bucket, "stage"), Stage("test", {"a": 1}, {})
    first, second = run_stage(stage, folder, work), run_stage(stage, folder, work)
    assert runs == [folder]
    assert (first.reused, second.reused, second.counts) == (False, True, {"rows": 3})
    assert not storage.exists(storage.join(folder, "checkpoints"))
    with pytest.raises(ConfigError, match="holds another test stage"):
        run_stage(Stage("test", {"a": 2}, {}), folder, work)


@pytest.mark.cluster
def test_a_training_in_a_bucket_that_is_killed_and_run_again_is_that_in_a_folder(
    bucket: str, tmp_path: Path, kill_when: Callable[[Sequence[str], Callable[[], bool]], None]
) -> None:
    """By Ray, which writes checkpoints there while training goes on; kill -9 once the first one is on its way."""
    sizes = {"target_train": 21, "target_dev": 5, "target_test": 4, "target_train_speakers": 2}
    demo = DemoOptions.model_validate({**sizes, "dev_speakers": 1, "test_speakers": 1})
    options = PrepareOptions(corpus=CorpusOptions(reader="demo", lang="fi", demo=demo))
    shards = str(tmp_path / "shards")
    run_stage(describe_prepare(options), shards, lambda folder: prepare(options, folder, ClusterOptions(workers=0)))

    def command(out: str, workers: int) -> list[str]:
        job = [sys.executable, str(Path(__file__).parents[1] / "jobs" / "train.py"), f"shards={shards}", f"out={out}"]
        schedule = {"updates": 8, "warmup": 2, "validate_every": 2, "average": 2, "lr": 1e-3}
        job += ["model.size=debug", "pieces.size=60", "batch.max_utterances=4", "batch.max_ctc_infeasible=1"]
        return [*job, *(f"train.{name}={value}" for name, value in schedule.items()), f"cluster.workers={workers}"]

    out, plain = f"{bucket}/training", str(tmp_path / "plain")
    kill_when(command(out, 1), lambda: bool(storage.list_files(f"{out}/checkpoints/update-0000002", recursive=True)))
    subprocess.run(command(out, 1), check=True)
    subprocess.run(command(plain, 0), check=True)
    assert storage.read_json(f"{out}/training.json") == storage.read_json(f"{plain}/training.json")
    assert storage.read_bytes(f"{out}/model.safetensors") == storage.read_bytes(f"{plain}/model.safetensors")
    assert storage.list_files(f"{out}/tensorboard", recursive=True)
    assert not storage.list_files(f"{out}/checkpoints", recursive=True)
