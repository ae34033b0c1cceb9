"""States of a frozen encoder: computed once, trained on, tested with, and computed anew for recordings."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tones
import torch

sys.path.append(str(Path(__file__).parents[1] / "model"))
from encoders import write_encoder

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.audio.decode import decode_flac
from xlst_ray.batches.index import Index, Source, TargetText, build_index, join
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.files import load_model
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.pretrained import load_pretrained
from xlst_ray.shards.files import shard_name
from xlst_ray.stages.encode import describe_encoding, encode
from xlst_ray.stages.evaluate import EvaluateOptions, evaluate
from xlst_ray.stages.speech_data import SpeechData, speech_data
from xlst_ray.stages.stage import Stage, run_stage
from xlst_ray.stages.states import EncoderOptions
from xlst_ray.stages.train import SpeechOptions, describe_training, train_speech
from xlst_ray.stages.transcribe import Recording, TranscribeOptions, transcribe
from xlst_ray.text.vocabulary import VocabularyOptions
from xlst_ray.train.options import TrainOptions

TEXTS = ["ab", "cdefg", "h", "bad", "face", "gh"]
HERE = ClusterOptions(workers=0, decoders=0)
OPTIONS = SpeechOptions(
    model=ModelOptions(size="debug", strides=(2,)),
    train=TrainOptions(updates=2, warmup=0, lr=1e-3, validate_every=1),
    batch=BatchOptions(max_utterances=3, max_ctc_infeasible=1.0),
    augment=AugmentOptions(policy="lb", freq_width=4, time_width=5),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, an encoder, and the states of both."""
    base = tmp_path_factory.mktemp("made")

    def prepare(folder: str) -> dict[str, int]:
        for split in ("train", "dev", "test"):
            tones.write_shards(Path(folder), split, TEXTS[:4], TEXTS[4:])
        return {"train": len(TEXTS)}

    run_stage(Stage("prepare", {"corpus": {"lang": "nl"}}, {}), str(base / "shards"), prepare)
    options = EncoderOptions(path=str(write_encoder(base / "whisper", "whisper")))
    encoded(options, str(base / "shards"), base / "states")
    return base


def encoded(options: EncoderOptions, shards: str, folder: Path) -> str:
    stage = describe_encoding(options, shards)
    return run_stage(stage, str(folder), lambda out: encode("encode", options, shards, out, HERE)).folder


@pytest.fixture
def shards(made: Path) -> str:
    return str(made / "shards")


@pytest.fixture
def encoder(made: Path, tmp_path: Path) -> EncoderOptions:
    return EncoderOptions(path=str(shutil.copytree(made / "whisper", tmp_path / "whisper")))


@pytest.fixture
def states(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made / "states", tmp_path / "states"))


def data_of(shards: str, states: str | None, out: Path) -> SpeechData:
    return speech_data(
        OPTIONS.text,
        VocabularyOptions(kind="char"),
        shards=shards,
        labels=None,
        init=None,
        vocabulary=None,
        held_out=None,
        out=str(out),
        states=states,
    )


def test_states_are_the_encoders_in_the_order_of_the_shard(shards: str, states: str, encoder: EncoderOptions) -> None:
    model = load_pretrained(Path(str(encoder.path)))
    for name in ("shard-00000.parquet", "shard-00001.parquet"):
        rows, kept = (pq.read_table(f"{folder}/train/{name}").to_pylist() for folder in (shards, states))
        assert [row["id"] for row in rows] == [row["id"] for row in kept]
        for row, found in zip(rows, kept, strict=True):
            features = model.frontend(decode_flac(row["audio"]))[None]
            with torch.inference_mode():
                expected = model(features, torch.tensor([features.shape[1]])).states[0]
            values = np.frombuffer(found["states"], dtype=np.float16).reshape(found["steps"], model.dim)
            np.testing.assert_allclose(values, expected.numpy(), atol=2e-3)


def test_a_killed_run_makes_what_is_missing(
    shards: str, states: str, encoder: EncoderOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {path: path.read_bytes() for path in Path(states).glob("*/*.parquet")}
    (Path(states) / "manifest.json").unlink()
    (Path(states) / "dev" / "shard-00001.parquet").unlink()
    times = {path: path.stat().st_mtime_ns for path in Path(states).glob("*/*.parquet")}
    assert encoded(encoder, shards, Path(states)) == states
    assert {path: path.read_bytes() for path in Path(states).glob("*/*.parquet")} == whole
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_together_or_alone_the_states_are_the_same(
    shards: str, states: str, encoder: EncoderOptions, tmp_path: Path
) -> None:
    together = encoded(encoder.replace(batch=4), shards, tmp_path / "together")
    for path in Path(states).glob("*/*.parquet"):
        one, other = (
            pq.read_table(Path(folder) / path.relative_to(states)).to_pylist() for folder in (states, together)
        )
        for alone, row in zip(one, other, strict=True):
            assert alone["steps"] == row["steps"]
            values = [np.frombuffer(each["states"], dtype=np.float16).astype(np.float32) for each in (alone, row)]
            np.testing.assert_allclose(*values, atol=4e-3)


def test_the_stage_is_that_of_the_encoder_not_of_its_place(
    shards: str, encoder: EncoderOptions, tmp_path: Path
) -> None:
    before = describe_encoding(encoder, shards).fingerprint
    moved = Path(str(encoder.path)).rename(tmp_path / "elsewhere")
    assert describe_encoding(EncoderOptions(path=str(moved)), shards).fingerprint == before
    assert describe_encoding(EncoderOptions(path=str(moved), layers=1), shards).fingerprint != before
    (moved / "model.safetensors").write_bytes(b"others")
    assert describe_encoding(EncoderOptions(path=str(moved)), shards).fingerprint != before


def test_utterances_of_which_a_part_is_heard_are_counted(encoder: EncoderOptions, tmp_path: Path) -> None:
    url = storage.join(str(tmp_path), "train", shard_name(0))
    rows = [tones.row(f"{seconds}", "a", np.zeros(round(seconds * 16_000), np.float32)) for seconds in (30.1, 1.0)]
    storage.write_table(url, tones.table(rows))
    counts = encode("encode", encoder, str(tmp_path), str(tmp_path / "states"), HERE)
    assert (counts["utterances"], counts["steps"], counts["cut"]) == (2, 1500 + 50, 1)


def test_no_encoder_is_an_error(shards: str) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.path=openai/whisper-base"):
        describe_encoding(EncoderOptions(), shards)


def test_a_batch_has_the_states_normalised(shards: str, states: str) -> None:
    index = build_index(Source(shards, "dev", states=states), TargetText(str.lower, tones.encode), BatchOptions())
    assert index.frames_per_second == 50
    (batch,) = BatchLoader(index, BatchOptions(), augment=None, seed=0).held_out_batches(ranks=[0], world=1)
    kept = {
        row["id"]: row
        for path in sorted(Path(states, "dev").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    for name, features, frames in zip(batch.ids, batch.features, batch.frames, strict=True):
        values = np.frombuffer(kept[name]["states"], np.float16).reshape(frames, -1).astype(np.float32)
        expected = (values - values.mean(0)) / values.std(0)
        np.testing.assert_allclose(features[:frames], expected, atol=5e-3)
        assert not features[frames:].any()


def test_an_index_with_states_is_read_back(shards: str, states: str, tmp_path: Path) -> None:
    text = TargetText(str.lower, tones.encode)
    index = build_index(Source(shards, "train", states=states), text, BatchOptions())
    index.save(str(tmp_path / "index.parquet"))
    assert Index.load(str(tmp_path / "index.parquet")).states == index.states
    assert [Path(url).name for url in index.states] == [Path(url).name for url in index.urls]
    with pytest.raises(DataError, match="have states and others have not"):
        join([index, build_index(Source(shards, "train"), text, BatchOptions())])


def test_states_of_other_shards_are_refused(shards: str, states: str) -> None:
    path = Path(states) / "train" / "shard-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match="out of step"):
        build_index(Source(shards, "train", states=states), TargetText(str.lower, tones.encode), BatchOptions())


def test_a_model_is_trained_tested_and_used_on_states(
    shards: str, states: str, encoder: EncoderOptions, tmp_path: Path
) -> None:
    model = str(tmp_path / "model")
    data = data_of(shards, states, tmp_path / "model")
    stage = describe_training("train", OPTIONS, data, 1, 1)
    run_stage(stage, model, lambda folder: train_speech("train", OPTIONS, data, 1, folder, HERE))
    assert load_model(Path(model)).input_dim == load_pretrained(Path(str(encoder.path))).dim

    beam = {"beam": 2, "max_tokens_ratio": 0.2, "ctc_weight": 0.3}
    tested, test = tmp_path / "test", Source(shards, "test", states=states)
    evaluate("test", EvaluateOptions(beam=beam), model, test, str(tested), HERE)
    rows = pq.read_table(tested / "hypotheses.parquet").to_pylist()
    assert len(rows) == len(TEXTS)

    sound = next(
        row for row in pq.read_table(f"{shards}/test/shard-00000.parquet").to_pylist() if row["text"] == "cdefg"
    )
    soundfile.write(tmp_path / "a.flac", decode_flac(sound["audio"]), 16_000)
    recordings = [Recording(str(tmp_path / "a.flac"), "a")]
    options = TranscribeOptions(beam=beam, longest=5.0)
    transcribe(options, model, recordings, str(tmp_path / "text"), HERE)
    (segment,) = json.loads((tmp_path / "text" / "a.json").read_text())["segments"]
    (row,) = (row for row in rows if row["id"] == sound["id"])
    assert segment["text"] == row["hypothesis"]
    assert segment["score"] == pytest.approx(row["score"], abs=1e-3)

    other = write_encoder(tmp_path / "other", "wav2vec2")
    with pytest.raises(DataError, match="another encoder than the one"):
        transcribe(options.replace(encoder=str(other)), model, recordings, str(tmp_path / "again"), HERE)


def test_a_model_is_given_what_it_reads(shards: str, states: str, tmp_path: Path) -> None:
    folders = {}
    for name, folder in (("states", states), ("filterbanks", None)):
        model = str(tmp_path / f"model-{name}")
        data = data_of(shards, folder, Path(model))
        stage = describe_training("train", OPTIONS, data, 1, 1)
        folders[name] = run_stage(
            stage, model, lambda out, data=data: train_speech("train", OPTIONS, data, 1, out, HERE)
        )
    assert folders["states"].fingerprint != folders["filterbanks"].fingerprint
    with pytest.raises(DataError, match=r"reads the states of .*whisper"):
        evaluate("test", EvaluateOptions(), folders["states"].folder, Source(shards, "test"), str(tmp_path / "a"), HERE)
    given = Source(shards, "test", states=states)
    with pytest.raises(DataError, match="reads filterbanks, not states"):
        evaluate("test", EvaluateOptions(), folders["filterbanks"].folder, given, str(tmp_path / "b"), HERE)


def test_states_have_one_speed(shards: str, states: str, tmp_path: Path) -> None:
    options = OPTIONS.replace(augment=AugmentOptions(speeds=(0.9, 1.0)))
    data = data_of(shards, states, tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be played at other speeds"):
        train_speech("train", options, data, 1, str(tmp_path / "out"), HERE)
