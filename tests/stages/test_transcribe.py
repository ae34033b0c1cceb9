"""Transcripts of recordings: which ones, in which files, with what in them; and going on where a run was stopped."""

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tones
import torch

sys.path.append(str(Path(__file__).parents[1] / "model"))
from encoders import write_encoder

from xlst_ray import storage
from xlst_ray.audio.decode import decode_flac
from xlst_ray.audio.fbank import MEL_BINS, SAMPLE_RATE, Fbank, utterance_cmvn
from xlst_ray.batches.index import Source, TargetText, build_index
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import Planned
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.beam import BeamOptions, beam_search
from xlst_ray.model.encoders import PretrainedEncoder
from xlst_ray.model.files import load_model, save_model
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.pretrained import load_pretrained
from xlst_ray.model.s2t import S2TModel
from xlst_ray.shards.files import shard_urls
from xlst_ray.stages.encode import encode
from xlst_ray.stages.evaluate import read_text_rule
from xlst_ray.stages.states import ABOUT, EncoderOptions
from xlst_ray.stages.transcribe import TranscribeOptions, Transcriber, find_recordings, transcribe
from xlst_ray.text.ids import BLANK
from xlst_ray.text.normalise import TextOptions
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary

HERE = ClusterOptions(decoders=0)
OPTIONS = TranscribeOptions(
    longest=2.0, batch=2, formats=("txt", "srt", "vtt"), beam=BeamOptions(beam=3, max_tokens_ratio=0, max_tokens=20)
)


def write_model(
    folder: Path, *, input_dim: int = MEL_BINS, pretrained: PretrainedEncoder | None = None, **changes: object
) -> S2TModel:
    vocabulary = train_vocabulary(
        ["de kat zit", "waar is de vis", "een oud schip"], VocabularyOptions(kind="char"), folder
    )
    torch.manual_seed(3)
    model = S2TModel(ModelOptions(size="debug", **changes).architecture(), len(vocabulary), input_dim, pretrained)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(0, 0.5)
        model.decoder.embed_tokens.weight.normal_(0, 0.1)
    save_model(folder, model)
    (folder / "text.json").write_text(json.dumps({"lang": "nl", "text": TextOptions().resolved()}))
    return model


@pytest.fixture
def model(tmp_path: Path) -> str:
    write_model(tmp_path / "model", ctc=False)
    return str(tmp_path / "model")


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., np.ndarray]:
    """`record("a/b.wav", "abc", "fgh")`: a recording of words with pauses between them; returns its wave."""

    def write(name: str, *words: str, rate: int = SAMPLE_RATE) -> np.ndarray:
        wave = np.concatenate([tones.wave(f"{word}   ", seed) for seed, word in enumerate(words)])
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, wave, rate, subtype="FLOAT" if name.endswith("wav") else None)
        return wave

    return write


def test_recordings_are_files_folders_and_globs(tmp_path: Path, record: Callable[..., np.ndarray]) -> None:
    for name in ("one.wav", "radio/b.flac", "radio/deep/a.ogg", "talks/x1.wav", "talks/x2.wav", "talks/y.wav"):
        record(name, "a")
    (tmp_path / "radio" / "notes.txt").write_text("no recording")
    found = find_recordings([f"{tmp_path}/{name}" for name in ("one.wav", "radio", "talks/x*.wav")])
    assert [one.name for one in found] == ["one", "b", "deep/a", "x1", "x2"]
    assert [Path(one.url).relative_to(tmp_path).as_posix() for one in found] == [
        "one.wav", "radio/b.flac", "radio/deep/a.ogg", "talks/x1.wav", "talks/x2.wav"
    ]  # fmt: skip
    assert [one.name for one in find_recordings([f"{tmp_path}/*/y.wav"])] == ["talks/y"]
    assert find_recordings([f"{tmp_path}/one.wav"] * 2) == found[:1]


@pytest.mark.parametrize("asked", ["none.wav", "talks/*.mp3", "empty"])
def test_what_matches_nothing_is_refused(tmp_path: Path, record: Callable[..., np.ndarray], asked: str) -> None:
    record("talks/x.wav", "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recording is there") as raised:
        find_recordings([f"{tmp_path}/{asked}"])
    assert raised.value.where == f"{tmp_path}/{asked}"


@pytest.mark.parametrize("name", ["stage", "manifest"])
def test_a_recording_whose_transcript_would_be_the_stages_own_file_is_refused(
    tmp_path: Path, record: Callable[..., np.ndarray], name: str
) -> None:
    record(f"radio/{name}.wav", "a")
    with pytest.raises(ConfigError, match=rf"its transcript would be {name}\.json"):
        find_recordings([f"{tmp_path}/radio"])
    assert [one.name for one in find_recordings([str(tmp_path)])] == [f"radio/{name}"]


def test_a_list_without_brackets_is_told_of_them(tmp_path: Path, record: Callable[..., np.ndarray]) -> None:
    for name in ("a.wav", "b.wav"):
        record(name, "a")
    with pytest.raises(DataError, match="no recording is there") as raised:
        find_recordings([f"{tmp_path}/a.wav,b.wav"])
    assert f"'audio=[{tmp_path}/a.wav,b.wav]'" in str(raised.value.hint)


def test_a_file_is_no_glob_whatever_its_name(tmp_path: Path, record: Callable[..., np.ndarray]) -> None:
    record("talk [2020].wav", "a")
    record("talk 2.wav", "a")
    assert [one.name for one in find_recordings([f"{tmp_path}/talk [2020].wav"])] == ["talk [2020]"]
    assert [one.name for one in find_recordings([f"{tmp_path}/talk [2020]*"])] == ["talk 2"]


@pytest.mark.parametrize("name", ["phone.M4A", "old.3gp"])
def test_what_needs_pyav_is_found_in_a_folder_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert [one.url for one in find_recordings([str(tmp_path)])] == [f"{tmp_path}/{name}"]


@pytest.mark.parametrize(("suffix", "kind"), [("aif", "AIFF"), ("aiff", "AIFF"), ("au", "AU")])
def test_a_folder_of_aiff_or_au_is_transcribed(tmp_path: Path, model: str, suffix: str, kind: str) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / f"a.{suffix}", tones.wave("abc", 0), SAMPLE_RATE, format=kind)
    counts = transcribe(OPTIONS, model, find_recordings([f"{tmp_path}/in"]), str(tmp_path / "out"), HERE)
    assert (counts["recordings"], counts["failed"]) == (1, 0)
    assert counts["seconds"] == round(len(tones.wave("abc", 0)) / SAMPLE_RATE, 2)


def test_files_of_a_folder_that_are_left_out_are_told(
    tmp_path: Path, record: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    record("in/a.wav", "a")
    find_recordings([f"{tmp_path}/in"])
    assert capsys.readouterr().out == "", "nothing is left out"
    for name in ("b.CAF", "deep/c.caf", "notes.txt", "README"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    assert [one.name for one in find_recordings([f"{tmp_path}/in"])] == ["a"]
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}/in: files left out, no recordings by their names: 4 (2 .caf, ")
    assert all(kind in said for kind in ("1 .txt", "1 no suffix"))


def test_a_model_folder_that_is_not_whole_is_refused(model: str) -> None:
    Path(model, "text.json").unlink()
    with pytest.raises(DataError, match="does not say the model's language") as raised:
        read_text_rule(Path(model))
    assert raised.value.where == f"{model}/text.json"


def test_two_recordings_of_one_name_are_refused(tmp_path: Path, record: Callable[..., np.ndarray]) -> None:
    for name in ("a.wav", "a.flac"):
        record(f"radio/{name}", "a")
    with pytest.raises(ConfigError, match=r"would have one transcript, a\.json"):
        find_recordings([f"{tmp_path}/radio"])


def test_a_long_recording_is_cut_recognised_part_by_part_and_put_together(
    tmp_path: Path, model: str, record: Callable[..., np.ndarray]
) -> None:
    wave = record("talk.wav", "abcde", "fgh", "hgfed", "cab", "face", "d")
    recordings = find_recordings([f"{tmp_path}/talk.wav"])
    counts = transcribe(OPTIONS, model, recordings, str(tmp_path / "out"), HERE)
    assert (counts["recordings"], counts["failed"]) == (1, 0)
    assert counts["seconds"] == round(len(wave) / SAMPLE_RATE, 2)
    whole = json.loads((tmp_path / "out" / "talk.json").read_text())
    segments, ours, vocabulary = whole["segments"], load_model(Path(model)), Vocabulary.load(Path(model))
    assert len(segments) > 2
    assert segments[0]["start"] == 0
    assert segments[-1]["end"] == whole["duration"] == counts["seconds"]
    for segment, following in pairwise(segments):
        assert segment["end"] == following["start"]
    for segment in segments:
        part = torch.from_numpy(wave[round(segment["start"] * SAMPLE_RATE) : round(segment["end"] * SAMPLE_RATE)])
        features, frames = Fbank()(part[None], torch.tensor([len(part)]))
        (best, *others), *_ = beam_search(ours, utterance_cmvn(features, frames).half().float(), frames, OPTIONS.beam)
        assert segment["text"] == vocabulary.decode(best.tokens)
        assert segment["score"] == pytest.approx(best.score, abs=1e-3)
        assert (segment["finished"], segment["looping"], segment["no_speech"]) == (best.finished, best.looping, False)
        assert [one["text"] for one in segment["alternatives"]] == [vocabulary.decode(one.tokens) for one in others]
    assert whole["text"] == " ".join(segment["text"] for segment in segments)
    assert (tmp_path / "out" / "talk.txt").read_text() == whole["text"] + "\n"
    subtitles = (tmp_path / "out" / "talk.srt").read_text()
    assert " ".join(line for line in subtitles.splitlines() if line and not line[0].isdigit()).split() == (
        whole["text"].split()
    )
    assert (tmp_path / "out" / "talk.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert (tmp_path / "out" / "failed.jsonl").read_text() == ""


@pytest.mark.parametrize("reads", ["filterbank", "whisper", "wav2vec2", "wav2vec2-bert", "states"])
def test_a_model_reads_of_a_wave_what_it_was_trained_on(tmp_path: Path, reads: str) -> None:
    """To the last bit: so long that padding would change some of them."""
    texts, folder = [tones.LETTERS * 6, "face" * 9, "cdefg" * 3, "bad" * 9], tmp_path / "model"
    shards = tones.write_shards(tmp_path / "shards", "train", texts)
    source, frontend = Source(shards, "train"), None
    if reads == "filterbank":
        write_model(folder)
    else:
        encoder = EncoderOptions(path=str(write_encoder(tmp_path / reads, "whisper" if reads == "states" else reads)))
        pretrained = load_pretrained(Path(str(encoder.path)))
        if reads == "states":
            write_model(folder, input_dim=pretrained.dim, strides=(2,))
            source = Source(shards, "train", states=str(tmp_path / "states"))
            about = encode("encode", encoder, shards, str(tmp_path / "states"), HERE)["about"]
            (folder / ABOUT).write_text(json.dumps(about))
        else:
            write_model(folder, pretrained=pretrained, strides=(2,))
            frontend = pretrained.frontend
    index = build_index(source, TargetText(str.lower, tones.encode), BatchOptions(max_ctc_infeasible=1.0))
    loader = BatchLoader(index, BatchOptions(), augment=None, seed=0, frontend=frontend)
    trained_on = loader.load(Planned.once(np.arange(len(texts))))
    waves = [decode_flac(flac) for flac in storage.read_table(shard_urls(shards, "train")[0])["audio"].to_pylist()]
    options = OPTIONS.replace(batch=EncoderOptions().batch)
    features, frames = Transcriber(str(folder), str(tmp_path), options, threads=1, gpu=False).features(waves)
    assert frames.tolist() == trained_on.frames.tolist()
    np.testing.assert_array_equal(features.numpy(), trained_on.features)


def test_it_goes_on_with_what_is_not_done_and_tells_what_cannot_be_decoded(
    tmp_path: Path, model: str, record: Callable[..., np.ndarray]
) -> None:
    for name in ("a.wav", "b.flac"):
        record(f"in/{name}", "abc", rate=8000)
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF, but no sound")
    recordings, out = find_recordings([f"{tmp_path}/in"]), tmp_path / "out"
    transcribe(OPTIONS, model, recordings[:1], str(out), HERE)  # stopped after the first
    first = (out / "a.json").stat().st_ino
    counts = transcribe(OPTIONS, model, recordings, str(out), HERE)
    assert (counts["recordings"], counts["failed"]) == (2, 1)
    assert (out / "a.json").stat().st_ino == first, "what was done is not done again"
    assert json.loads((out / "b.json").read_text())["duration"] == counts["seconds"] / 2
    (failure,) = map(json.loads, (out / "failed.jsonl").read_text().splitlines())
    assert failure["audio"] == f"{tmp_path}/in/bad.wav"
    assert failure["error"]
    assert not (out / "bad.json").exists()


def test_the_summary_counts_what_may_be_wrong_and_warns_of_it(
    tmp_path: Path, model: str, record: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "b.wav"):
        record(f"in/{name}", "abcde", "fgh")
    recordings, out = find_recordings([f"{tmp_path}/in"]), str(tmp_path / "out")
    stopped_early = OPTIONS.replace(beam=BeamOptions(beam=1, max_tokens_ratio=0, max_tokens=2))
    counts = transcribe(stopped_early, model, recordings, out, HERE)
    said = capsys.readouterr().out
    segments = [one for name in "ab" for one in storage.read_json(f"{out}/{name}.json")["segments"]]
    unfinished = [one for one in segments if not one["finished"]]
    assert unfinished, "two tokens are too few for some"
    assert (counts["segments"], counts["unfinished"]) == (len(segments), len(unfinished))
    assert (counts["looping"], counts["no_speech"]) == (0, 0)
    assert f"warning: of {len(segments)} segments 0 loop and {len(unfinished)} are unfinished" in said
    looping = storage.read_json(f"{out}/a.json")
    for one in looping["segments"]:
        one.update(looping=True, finished=True)
    storage.write_json(f"{out}/a.json", looping)
    counts = transcribe(stopped_early, model, recordings[:1], out, HERE)
    assert (counts["looping"], counts["unfinished"]) == (len(looping["segments"]), 0), "what was done before counts too"
    clean = {**looping, "segments": [{**one, "looping": False} for one in looping["segments"]]}
    storage.write_json(f"{out}/a.json", clean)
    capsys.readouterr()
    transcribe(stopped_early, model, recordings[:1], out, HERE)
    assert "warning" not in capsys.readouterr().out


def test_where_ctc_hears_nothing_there_is_no_text(tmp_path: Path, record: Callable[..., np.ndarray]) -> None:
    model = write_model(tmp_path / "silent")
    assert model.ctc is not None
    with torch.no_grad():
        model.ctc.bias[BLANK] = 1e4
    save_model(tmp_path / "silent", model)
    record("talk.wav", "abc")
    recordings = find_recordings([f"{tmp_path}/talk.wav"])
    counts = transcribe(OPTIONS, str(tmp_path / "silent"), recordings, str(tmp_path / "out"), HERE)
    whole = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert all(segment["text"] and segment["no_speech"] for segment in whole["segments"])
    assert counts["no_speech"] == len(whole["segments"])
    assert whole["text"] == "" == (tmp_path / "out" / "talk.srt").read_text()


def test_a_recording_shorter_than_a_frame_has_no_text(tmp_path: Path, model: str) -> None:
    soundfile.write(tmp_path / "click.wav", np.zeros(100, np.float32), SAMPLE_RATE)
    recordings = find_recordings([f"{tmp_path}/click.wav"])
    transcribe(OPTIONS, model, recordings, str(tmp_path / "out"), HERE)
    assert json.loads((tmp_path / "out" / "click.json").read_text())["segments"] == []


@pytest.mark.parametrize("there", ['{"duration": 1.6, "speaker": "A"}', '{"speaker": "A"}', "[1.6]", "{"])
def test_a_foreign_file_where_the_transcript_belongs_is_refused_and_kept(
    tmp_path: Path, model: str, record: Callable[..., np.ndarray], there: str
) -> None:
    record("in/a.wav", "abc")
    (tmp_path / "in" / "a.json").write_text(there)
    with pytest.raises(DataError, match=r"is no(t JSON| transcript that this job wrote)") as raised:
        transcribe(OPTIONS, model, find_recordings([f"{tmp_path}/in"]), str(tmp_path / "in"), HERE)
    assert raised.value.where == f"{tmp_path}/in/a.json"
    assert "choose another out" in str(raised.value.hint)
    assert (tmp_path / "in" / "a.json").read_text() == there
