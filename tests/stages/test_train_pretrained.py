"""A pretrained encoder in the model: trained, frozen, in part, and layer by layer at rates of its own."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tones
import torch
from torch.nn.utils.rnn import pad_sequence

sys.path.append(str(Path(__file__).parents[1] / "model"))
from encoders import KINDS, write_encoder

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.audio.decode import decode_flac
from xlst_ray.audio.fbank import utterance_cmvn
from xlst_ray.batches.index import Source
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.encoders import depths
from xlst_ray.model.files import load_model, save_model
from xlst_ray.model.options import ModelOptions, PretrainedOptions
from xlst_ray.model.pretrained import load_pretrained
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.transfer import TransferOptions
from xlst_ray.shards.files import shard_name
from xlst_ray.stages.encode import describe_encoding, encode
from xlst_ray.stages.evaluate import EvaluateOptions, evaluate
from xlst_ray.stages.export import export
from xlst_ray.stages.speech_data import SpeechData, speech_data
from xlst_ray.stages.stage import Stage, run_stage
from xlst_ray.stages.states import EncoderOptions
from xlst_ray.stages.train import SpeechOptions, describe_training, train_speech
from xlst_ray.stages.transcribe import LEAST, Recording, TranscribeOptions, transcribe
from xlst_ray.text.vocabulary import VocabularyOptions
from xlst_ray.train.options import TrainOptions

TEXTS = ["ab", "cdefg", "h", "bad"]
HERE = ClusterOptions(workers=0, decoders=0)
TOP = ModelOptions(size="debug", strides=(2,))


def options(encoder: Path, updates: int = 2, **changes: object) -> SpeechOptions:
    return SpeechOptions(
        model=TOP.replace(pretrained=PretrainedOptions(path=str(encoder), **changes)),
        train=TrainOptions(updates=updates, warmup=0, lr=1e-3, validate_every=1),
        batch=BatchOptions(max_utterances=2, max_ctc_infeasible=1.0),
        augment=AugmentOptions(policy="none"),
    )


@pytest.fixture
def encoder(tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: write_encoder(tmp_path / kind, kind)


@pytest.fixture
def data(tmp_path: Path) -> SpeechData:
    def prepare(folder: str) -> dict[str, int]:
        for split in ("train", "dev", "test"):
            tones.write_shards(Path(folder), split, TEXTS)
        return {"train": len(TEXTS)}

    shards = run_stage(Stage("prepare", {"corpus": {"lang": "nl"}}, {}), str(tmp_path / "shards"), prepare).folder
    return speech_data(
        TOP_TEXT,
        VocabularyOptions(kind="char"),
        shards=shards,
        labels=None,
        init=None,
        vocabulary=None,
        held_out=None,
        out=str(tmp_path / "out"),
    )


TOP_TEXT = SpeechOptions().text


def trained(speech: SpeechOptions, data: SpeechData, folder: Path) -> S2TModel:
    stage = describe_training("train", speech, data, 1, 1)
    run_stage(stage, str(folder), lambda out: train_speech("train", speech, data, 1, out, HERE))
    return load_model(folder)


def moved(model: S2TModel, encoder: Path) -> set[str]:
    """The pretrained parameters that training has changed, by their names in the encoder."""
    before = load_pretrained(encoder).state_dict()
    after = dict(model.encoder.pretrained.state_dict())  # type: ignore[union-attr]
    assert before.keys() == after.keys()
    return {name for name, values in after.items() if not torch.equal(values, before[name])}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_trained_saved_and_read_back(
    kind: str, encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path
) -> None:
    folder = encoder(kind)
    model = trained(options(folder), data, tmp_path / "out")
    changed = moved(model, folder)
    assert {name for name in changed if ".layers." in name}
    assert not {name for name in changed if "embed_positions" in name}, "Whisper's positions are no parameters"
    test = tmp_path / "test"
    evaluate("test", EvaluateOptions(beam={"beam": 2, "max_tokens_ratio": 0.2}), str(tmp_path / "out"),
             Source(data.train.shards, "test"), str(test), HERE)  # fmt: skip
    rows = {row["reference"]: row for row in pq.read_table(test / "hypotheses.parquet").to_pylist()}
    assert len(rows) == len(TEXTS)
    sound = pq.read_table(f"{data.train.shards}/test/shard-00000.parquet").to_pylist()[1]
    soundfile.write(tmp_path / "a.flac", decode_flac(sound["audio"]), 16_000)
    found = TranscribeOptions(beam={"beam": 2, "max_tokens_ratio": 0.2})
    transcribe(found, str(tmp_path / "out"), [Recording(str(tmp_path / "a.flac"), "a")], str(tmp_path / "text"), HERE)
    written = (tmp_path / "text" / "a.txt").read_text().strip()
    assert rows[sound["text"]]["no_speech"] or written == rows[sound["text"]]["hypothesis"]


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_stay_and_the_rest_trains(
    kind: str, encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path
) -> None:
    folder = encoder(kind)
    changed = moved(trained(options(folder, frozen_layers=2), data, tmp_path / "out"), folder)
    assert changed
    assert all(".layers.2." in name or name.endswith(("layer_norm.weight", "layer_norm.bias")) for name in changed)
    assert not moved(trained(options(folder, frozen=True), data, tmp_path / "frozen"), folder)
    size = sum(value.numel() for value in load_pretrained(folder).parameters())
    told = (tmp_path / "frozen" / "transfer.txt").read_text()
    assert f"of which {size:,} of {size:,} parameters never train" in told
    with pytest.raises(ConfigError, match="the encoder has 3 layers"):
        trained(options(folder, frozen_layers=4), data, tmp_path / "many")


def test_a_frozen_one_computes_what_a_model_on_its_states_does(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    pretrained = load_pretrained(encoder("whisper"))
    pretrained.frozen = True
    torch.manual_seed(1)
    stacked = S2TModel(TOP.architecture(), 20, pretrained=pretrained)
    save_model(tmp_path / "model", stacked)
    stacked = load_model(tmp_path / "model").train()
    assert not stacked.encoder.pretrained.training  # type: ignore[union-attr]
    assert stacked.eval().input_dim == 80
    on_states = S2TModel(TOP.architecture(), 20, input_dim=pretrained.dim).eval()
    prefix = "encoder.top."
    state = {name.replace(prefix, "encoder."): values for name, values in stacked.state_dict().items()}
    on_states.load_state_dict({name: state[name] for name in on_states.state_dict()})
    features = [pretrained.frontend(tones.wave(text)) for text in TEXTS[:2]]
    lengths, tokens = torch.tensor([len(rows) for rows in features]), torch.tensor([[2, 5, 6], [2, 7, 8]])
    padded = pad_sequence(features, batch_first=True)
    with torch.inference_mode():
        states, steps = pretrained(padded, lengths)
        expected = on_states(utterance_cmvn(states, steps), steps, tokens)
        found = stacked(padded, lengths, tokens)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.encoded_lengths, expected.encoded_lengths)


def test_a_model_on_states_goes_on_with_its_encoder_in_it(
    encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path
) -> None:
    folder, shards = encoder("whisper"), data.train.shards
    kept = EncoderOptions(path=str(folder))
    stage = describe_encoding(kept, shards)
    states = run_stage(stage, str(tmp_path / "states"), lambda out: encode("encode", kept, shards, out, HERE)).folder
    train, dev = (replace(source, states=states) for source in (data.train, data.dev))
    first = trained(options(folder).replace(model=TOP), replace(data, train=train, dev=dev), tmp_path / "first")
    transfer = TransferOptions(rename={"encoder.": "encoder.top."}, exclude=("encoder.pretrained.*",))
    speech = options(folder).replace(
        transfer=transfer, train=TrainOptions(updates=1, warmup=0, lr=1e-9, validate_every=1)
    )
    second = trained(speech, replace(data, init=str(tmp_path / "first")), tmp_path / "second").state_dict()
    for name, values in first.state_dict().items():
        torch.testing.assert_close(
            second[name.replace("encoder.", "encoder.top.", 1) if name[0] == "e" else name], values
        )


@pytest.mark.parametrize("kind", KINDS)
def test_lower_layers_learn_more_slowly(kind: str, encoder: Callable[[str], Path]) -> None:
    from xlst_ray.train.loop import make_optimizer

    model = S2TModel(TOP.architecture(), 20, pretrained=load_pretrained(encoder(kind)))
    optimizer = make_optimizer(model, TrainOptions(layer_decay=0.5))
    share = {id(value): group["share"] for group in optimizer.param_groups for value in group["params"]}
    shares = {name: share[id(value)] for name, value in model.named_parameters()}
    assert {value for name, value in shares.items() if ".pretrained." not in name} == {1.0}
    for number, expected in enumerate((0.125, 0.25, 0.5)):
        assert {value for name, value in shares.items() if f".layers.{number}." in name and ".pretrained." in name} == {
            expected
        }
    first = next(name for name in shares if "conv1" in name or "feature_projection" in name)
    assert shares[first] == 0.0625
    assert len(make_optimizer(model, TrainOptions()).param_groups) == 1
    assert not depths(S2TModel(TOP.architecture(), 20))


def test_what_the_encoder_is_decides_the_stage(encoder: Callable[[str], Path], data: SpeechData) -> None:
    folder = encoder("whisper")

    def stage(speech: SpeechOptions) -> str:
        return describe_training("train", speech, data, 1, 1).fingerprint

    before = stage(options(folder))
    other = folder.rename(folder.with_name("elsewhere"))
    assert stage(options(other)) == before
    assert stage(options(other, frozen_layers=1)) != before
    (other / "model.safetensors").write_bytes(b"another")
    assert stage(options(other)) != before


def test_masks_of_bins_are_refused_where_bins_are_samples(
    encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path
) -> None:
    speech = options(encoder("wav2vec2")).replace(augment=AugmentOptions(policy="lb"))
    with pytest.raises(ConfigError, match=r"freq_masks=0"):
        train_speech("train", speech, data, 1, str(tmp_path / "out"), HERE)
    trained(speech.replace(augment=AugmentOptions(policy="lb", freq_masks=0, time_width=5)), data, tmp_path / "out")


def test_it_is_no_speech2text(encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path) -> None:
    trained(options(encoder("whisper")), data, tmp_path / "out")
    with pytest.raises(DataError, match="no pretrained encoder"):
        export(str(tmp_path / "out"), str(tmp_path / "export"))
    assert not np.any([path.exists() for path in (tmp_path / "export").glob("*")])


@pytest.fixture
def long(tmp_path: Path) -> SpeechData:
    """Of 1, 28 and 31 s, and a sentence without a letter."""
    sounds = {"a": ("ab", 1.0), "b": ("cd", 28.0), "c": ("ef", 31.0), "d": ("...", 1.0)}

    def prepare(folder: str) -> dict[str, int]:
        for split in ("train", "dev", "test"):
            rows = [
                tones.row(name, text, np.resize(tones.wave("abc"), int(seconds * 16_000)))
                for name, (text, seconds) in sounds.items()
            ]
            storage.write_table(f"{folder}/{split}/{shard_name(0)}", tones.table(rows))
        return {"train": 4}

    shards = run_stage(Stage("prepare", {"corpus": {"lang": "nl"}}, {}), str(tmp_path / "shards"), prepare).folder
    return speech_data(
        TOP_TEXT, VocabularyOptions(kind="char"), shards=shards, labels=None, init=None, vocabulary=None, held_out=None,
        out=str(tmp_path / "out"),
    )  # fmt: skip


def scores_of(model: Path, test: Source, folder: Path) -> dict[str, Any]:
    return evaluate(
        "test", EvaluateOptions(beam={"beam": 1, "max_tokens_ratio": 0.05}), str(model), test, str(folder), HERE
    )


def test_what_whisper_does_not_hear_is_not_trained_on_and_told_where_it_is_scored(
    encoder: Callable[[str], Path], long: SpeechData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 s, and less where it is played more slowly."""
    for name, speeds, kept in (("one", (1.0,), 2), ("slow", (0.9, 1.0), 1)):
        speech = options(encoder("whisper"), updates=1).replace(augment=AugmentOptions(policy="none", speeds=speeds))
        speech = speech.replace(batch=speech.batch.replace(max_utterance_frames=4000))
        counts = train_speech("train", speech, long, 1, str(tmp_path / name), HERE)
        assert (counts["kept"], counts["longer than is heard"], counts["empty text"]) == (kept, 3 - kept, 1)
    found = scores_of(tmp_path / "one", Source(long.train.shards, "test"), tmp_path / "test")
    assert (found["utterances"], found["cut"], found["left_out"]) == (4, 1, {})
    assert "test: 4 utterances are scored; left out: none; heard up to the encoder's 30 s alone: 1" in (
        capsys.readouterr().out
    )
    with pytest.raises(ConfigError, match="longest: the encoder hears 30 s, not 40"):
        transcribe(TranscribeOptions(longest=40.0), str(tmp_path / "one"), [Recording("a.flac", "a")],
                   str(tmp_path / "text"), HERE)  # fmt: skip


def test_so_it_is_with_the_states_of_whisper(encoder: Callable[[str], Path], long: SpeechData, tmp_path: Path) -> None:
    shards, of = long.train.shards, EncoderOptions(path=str(encoder("whisper")))
    states = run_stage(
        describe_encoding(of, shards),
        str(tmp_path / "states"),
        lambda folder: encode("encode", of, shards, folder, HERE),
    ).folder
    speech = options(encoder("whisper"), updates=1).replace(model=TOP)
    data = replace(long, train=replace(long.train, states=states), dev=replace(long.dev, states=states))
    assert describe_training("train", speech, data, 1, 1).config["heard"] == "whole", "others are left out than before"
    counts = train_speech("train", speech, data, 1, str(tmp_path / "model"), HERE)
    assert (counts["kept"], counts["longer than is heard"], counts["empty text"]) == (2, 1, 1)
    found = scores_of(tmp_path / "model", Source(shards, "test", states=states), tmp_path / "test")
    assert (found["utterances"], found["cut"], found["left_out"]) == (4, 1, {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_too_short_for_a_state_has_no_text(
    encoder: Callable[[str], Path], data: SpeechData, tmp_path: Path, kind: str
) -> None:
    trained(options(encoder(kind), updates=1), data, tmp_path / "out")
    segments = {400: 0, 480: 0, 560: 0, LEAST: 1}
    recordings = [Recording(f"{tmp_path}/{samples}.wav", f"{samples}") for samples in segments]
    for samples, recording in zip(segments, recordings, strict=True):
        soundfile.write(recording.url, tones.wave("abc")[:samples], 16_000)
    transcribe(TranscribeOptions(beam={"beam": 1}), str(tmp_path / "out"), recordings, str(tmp_path / "text"), HERE)
    for samples, count in segments.items():
        assert len(storage.read_json(f"{tmp_path}/text/{samples}.json")["segments"]) == count
