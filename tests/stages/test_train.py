"""A training that starts from a checkpoint in transformers' Speech2Text layout."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tones
import torch
from safetensors.torch import load_file
from text_shards import write_text_shards

from xlst_ray import storage
from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.index import Source
from xlst_ray.batches.options import BatchOptions
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.train import OnValidation
from xlst_ray.errors import ConfigError, DataError, TrainingError, TransferError
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.quality import QualityOptions
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling
from xlst_ray.stages.score_labels import score_and_report
from xlst_ray.stages.speech_data import SourceOptions, SpeechData, speech_data
from xlst_ray.stages.stage import Stage, run_stage
from xlst_ray.stages.text import read_vocabulary
from xlst_ray.stages.train import SpeechOptions, describe_training, train_speech
from xlst_ray.text.keep import NAMES, KeepOptions
from xlst_ray.text.speech2text import write_tokenizer
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary
from xlst_ray.train.options import TrainOptions

TEXTS = ["ab", "cdefg", "h", "bad", "face"]
OPTIONS = SpeechOptions(
    model=ModelOptions(size="debug"),
    train=TrainOptions(updates=1, warmup=0, lr=1e-9, validate_every=1),
    batch=BatchOptions(max_utterances=5),
    augment=AugmentOptions(policy="none"),
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A recogniser of the letters, without a CTC head as the public ones."""
    folder = tmp_path / "checkpoint"
    vocabulary = train_vocabulary(["".join(tones.LETTERS), "a b"], VocabularyOptions(kind="char"))
    torch.manual_seed(11)
    save_speech2text(folder, S2TModel(ModelOptions(size="debug", ctc=False).architecture(), len(vocabulary)))
    write_tokenizer(folder, vocabulary.to_bytes(), vocabulary.pieces)
    return folder


@pytest.fixture
def data(tmp_path: Path, checkpoint: Path) -> SpeechData:
    def prepare(folder: str) -> dict[str, int]:
        for split in ("train", "dev"):
            tones.write_shards(Path(folder), split, TEXTS)
        return {"train": len(TEXTS), "dev": len(TEXTS)}

    shards = run_stage(Stage("prepare", {"corpus": {"lang": "nl"}}, {}), str(tmp_path / "shards"), prepare).folder
    return speech_data(
        OPTIONS.text,
        VocabularyOptions(),
        shards=shards,
        labels=None,
        init=str(checkpoint),
        vocabulary=str(checkpoint),
        held_out=None,
        out=str(tmp_path / "out"),
    )


def test_it_starts_from_all_that_the_checkpoint_has_and_keeps_its_vocabulary(
    data: SpeechData, checkpoint: Path, tmp_path: Path
) -> None:
    train_speech("train", OPTIONS, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    trained = load_file(tmp_path / "out" / "model.safetensors")
    weights = load_file(checkpoint / "model.safetensors")
    assert {name.removeprefix("model.") for name in weights} == {name for name in trained if name[:4] != "ctc."}
    for name, tensor in weights.items():  # one update of 1e-9 lies between
        torch.testing.assert_close(trained[name.removeprefix("model.")], tensor, atol=1e-7, rtol=0)
    assert Vocabulary.load(tmp_path / "out").pieces == Vocabulary.load(checkpoint).pieces
    told = (tmp_path / "out" / "transfer.txt").read_text()
    assert f"starts from {checkpoint}" in told
    assert "not in the source" in told, "the CTC head"


def test_other_weights_are_another_stage(data: SpeechData, checkpoint: Path) -> None:
    before = describe_training("train", OPTIONS, data, 1, 1).fingerprint
    assert describe_training("train", OPTIONS, data, 1, 1).fingerprint == before
    torch.manual_seed(12)
    vocabulary = Vocabulary.load(checkpoint)
    save_speech2text(checkpoint, S2TModel(ModelOptions(size="debug", ctc=False).architecture(), len(vocabulary)))
    assert describe_training("train", OPTIONS, data, 1, 1).fingerprint != before


def test_a_training_is_gone_on_with_by_its_own_ranks_alone(data: SpeechData, tmp_path: Path) -> None:
    """On whatever processes: a checkpoint's place counts the batches of its plan, which is made for so many ranks."""

    def train(cluster: ClusterOptions, on_validation: OnValidation | None = None) -> None:
        stage = describe_training("train", OPTIONS, data, 1, cluster.planned_ranks)
        work = partial(train_speech, "train", OPTIONS, data, 1, cluster=cluster, on_validation=on_validation)
        run_stage(stage, str(tmp_path / "out"), work)

    def lose(_: object) -> None:
        raise TrainingError("lost")

    with pytest.raises(TrainingError, match="lost"):
        train(ClusterOptions(workers=0, ranks=2), lose)
    assert list((tmp_path / "out" / "checkpoints").iterdir())
    for other in (ClusterOptions(workers=0), ClusterOptions(workers=1), ClusterOptions(workers=2, ranks=4)):
        with pytest.raises(ConfigError, match=r"another train stage, not finished \(ranks differ\)"):
            train(other)
    train(ClusterOptions(workers=0, ranks=2))


def test_another_number_of_heads_is_refused_though_all_shapes_fit(data: SpeechData, tmp_path: Path) -> None:
    options = OPTIONS.replace(model=ModelOptions(size="debug", heads=4))
    with pytest.raises(TransferError, match="has 2 attention heads, the model 4"):
        train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))


def test_other_strides_are_refused_though_all_shapes_fit(data: SpeechData, tmp_path: Path) -> None:
    options = OPTIONS.replace(model=ModelOptions(size="debug", strides=(2, 1)))
    with pytest.raises(TransferError, match=r"strides \[2, 2\], the model \[2, 1\](.|\n)*model.strides=\[2, 2\]"):
        train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    options = options.replace(transfer=options.transfer.replace(modules="decoder"))
    train_speech("train", options, data, 1, str(tmp_path / "decoder"), ClusterOptions(workers=0))


def test_a_conformer_takes_over_the_decoder_and_the_subsampler(
    data: SpeechData, checkpoint: Path, tmp_path: Path
) -> None:
    options = OPTIONS.replace(model=ModelOptions(size="debug", encoder="conformer", depthwise_kernel=7))
    with pytest.raises(TransferError, match=r"encoder\.layers\.0 +reset: not in the source"):
        train_speech("train", options, data, 1, str(tmp_path / "refused"), ClusterOptions(workers=0))
    options = options.replace(transfer=options.transfer.replace(include=("decoder.*", "encoder.conv.*")))
    train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    trained = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        if name.startswith(("model.decoder.", "model.encoder.conv.")):
            torch.testing.assert_close(trained[name.removeprefix("model.")], tensor, atol=1e-7, rtol=0)


KEEP = KeepOptions(**{**dict.fromkeys(NAMES), "script": 0.8})


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[str, str]:
    """Shards, and labels with scores, of which `KEEP` refuses one."""
    shards, labels, alone = f"{tmp_path}/shards", f"{tmp_path}/labels", ClusterOptions(translators=0)
    write_text_shards(shards, [["the cat sleeps", "the dog barks"]])
    (tmp_path / "pairs.tsv").write_text("en\tfi\nthe cat sleeps\tkissa nukkuu\nthe dog barks\tщщщщ\n")
    engine = EngineOptions(engine="phrasebook", table=f"{tmp_path}/pairs.tsv")
    labelling = open_labelling(LabelOptions(engine=engine), shards, ["fi"], labels, None, alone)
    labelling.run()
    score_and_report(shards, labels, KEEP, QualityOptions(), f"{tmp_path}/translations", alone)
    return shards, labels


def test_a_vocabulary_is_of_the_labels_that_are_kept(labelled: tuple[str, str], tmp_path: Path) -> None:
    shards, labels = labelled
    pieces = [
        read_vocabulary(
            speech_data(
                OPTIONS.text, VocabularyOptions(kind="char"), shards=shards, labels=labels, init=None, vocabulary=None,
                held_out=None, out=f"{tmp_path}/out", keep=chosen,
            ).vocabulary
        ).pieces
        for chosen in (None, KEEP)
    ]  # fmt: skip
    assert ["щ" in some for some in pieces] == [True, False]
    assert all("k" in some for some in pieces)


def test_a_vocabulary_is_made_anew_where_what_it_is_made_of_has_changed(
    labelled: tuple[str, str], tmp_path: Path
) -> None:
    """At the same paths: other held-out sentences, another attempt at labels that had failed."""
    (shards, labels), held_out = labelled, tmp_path / "held-out"

    def made() -> str:
        return speech_data(
            OPTIONS.text, VocabularyOptions(kind="char"), shards=shards, labels=labels, init=None, vocabulary=None,
            held_out=str(held_out), out=f"{tmp_path}/out",
        ).vocabulary  # fmt: skip

    held_out.write_text("")
    first = made()
    assert made() == first
    held_out.write_text("kissa nukkuu\n")
    second = made()
    assert ["k" in read_vocabulary(one).pieces for one in (first, second)] == [True, False]
    manifest = storage.read_json(f"{labels}/manifest.json")
    manifest["counts"]["content"] += 1
    storage.write_json(f"{labels}/manifest.json", manifest)
    assert made() not in (first, second)


def test_further_sources_have_the_held_out_sentences_of_the_job_unless_they_say_others(
    data: SpeechData, checkpoint: Path
) -> None:
    given: list[dict[str, str | None]] = [{}, {"held_out": None}, {"held_out": "/other"}]
    further = {
        str(n): SourceOptions.model_validate({"shards": data.train.shards, **one}) for n, one in enumerate(given)
    }
    found = speech_data(
        OPTIONS.text, VocabularyOptions(), shards=data.train.shards, labels=None, init=None, vocabulary=str(checkpoint),
        held_out="/keys", out="/out", further=further,
    )  # fmt: skip
    assert found.train.held_out == "/keys"
    assert [source.held_out for source, _ in found.further.values()] == ["/keys", None, "/other"]


def test_each_source_leaves_out_its_own_held_out_sentences(checkpoint: Path, tmp_path: Path) -> None:
    shards = str(tmp_path / "shards")
    for split in ("train", "dev"):
        tones.write_shards(Path(shards), split, TEXTS)
    run_stage(Stage("prepare", {"corpus": {"lang": "nl"}}, {}), shards, lambda _: {"train": len(TEXTS)})
    (tmp_path / "keys").write_text(f"{TEXTS[0]}\n")
    whole, less = (Source(shards, "train", held_out=file) for file in (None, f"{tmp_path}/keys"))
    data = SpeechData(whole, Source(shards, "dev"), "nl", str(checkpoint), further={"more": (less, "nl")})
    counts = train_speech("train", OPTIONS, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    assert (counts["kept"], counts["held-out sentence"]) == (2 * len(TEXTS) - 1, 1)
    every = [replace(data, train=one, further={"more": (two, "nl")}) for one in (whole, less) for two in (whole, less)]
    assert len({describe_training("train", OPTIONS, one, 1, 1).fingerprint for one in every}) == 4


def test_every_validation_is_told_with_the_scores_of_the_development_set(
    data: SpeechData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS.replace(train=TrainOptions(updates=4, warmup=0, lr=1e-3, validate_every=2))
    counts = train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    told = [line for line in capsys.readouterr().out.splitlines() if "on the development set" in line]
    assert [line.partition("  on")[0] for line in told] == ["train  update 2/4", "train  update 4/4"]
    assert f"loss {counts['dev']['loss']:.3f}" in told[1]
    assert f"accuracy {counts['dev']['accuracy']:.3f}" in told[1]


def test_which_labels_are_trained_on_is_part_of_what_a_training_is(
    labelled: tuple[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    """Alone, and beside other speech."""
    shards, labels = labelled
    options = [{}, {"keep": KEEP}, {"share": 0.5}, {"share": 0.25, "keep": KEEP}]
    sources = [Source(shards, "train", labels, **more) for more in options]
    data = [SpeechData(source, Source(shards, "dev"), "fi", str(checkpoint)) for source in sources]
    data += [replace(data[0], further={"more": (source, "fi")}) for source in sources]
    data += [replace(data[0], further={"more": (replace(sources[0], weight=2.0), "fi")})]
    assert len({describe_training("train", OPTIONS, some, 1, 1).fingerprint for some in data}) == 9


def test_a_vocabulary_of_another_language_is_refused_with_what_it_lacks(data: SpeechData, tmp_path: Path) -> None:
    train_vocabulary(["cdefgh"], VocabularyOptions(kind="char"), tmp_path / "other")
    data = replace(data, vocabulary=str(tmp_path / "other"), init=None)
    with pytest.raises(DataError, match=r"16\.7% .* unknown \(allowed: 5\.0%\) to the vocabulary, which lacks a b\n"):
        train_speech("train", OPTIONS, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    rare = OPTIONS.replace(batch=OPTIONS.batch.replace(max_unknown=0.25))
    counts = train_speech("train", rare, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    assert 0.05 < counts["unknown_share"] <= 0.25
    assert len({describe_training("train", one, data, 1, 1).fingerprint for one in (OPTIONS, rare)}) == 1


def test_the_tag_of_a_language_is_no_digit(data: SpeechData, tmp_path: Path) -> None:
    vocabulary = ["".join(tones.LETTERS)]
    train_vocabulary(vocabulary, VocabularyOptions(kind="char", tags=True), tmp_path / "tagged", ["nl"])
    tagged = replace(data, vocabulary=str(tmp_path / "tagged"), init=None)
    counts = train_speech("train", OPTIONS, tagged, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    assert counts["digit_share"] == 0


def test_where_ctc_cannot_align_the_key_is_named_as_a_recipe_has_it_too(data: SpeechData, tmp_path: Path) -> None:
    options = OPTIONS.replace(model=OPTIONS.model.replace(strides=(20, 20)))
    with pytest.raises(DataError, match=r"raise batch\.max_ctc_infeasible \(<phase>\.batch\.max_ctc_infeasible of"):
        train_speech("train", options, replace(data, init=None), 1, str(tmp_path / "out"), ClusterOptions(workers=0))


def test_what_a_failed_update_leaves_stays_in_the_folder_of_the_training(data: SpeechData, tmp_path: Path) -> None:
    options = OPTIONS.replace(train=TrainOptions(updates=4, warmup=0, lr=1e30, validate_every=2))
    with pytest.raises(TrainingError, match="the loss of update 2 is not finite") as raised:
        train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    place = tmp_path / "out" / "not-finite" / "update-0000002"
    assert raised.value.where == str(place)
    assert sorted(load_file(place / "rank-0-batch-0.safetensors")) == [
        "features", "frames", "target_lengths", "targets"
    ]  # fmt: skip


def test_the_running_average_is_what_is_saved(data: SpeechData, tmp_path: Path) -> None:
    train = TrainOptions(updates=4, warmup=0, lr=1e-3, validate_every=2, average=1)
    models = {}
    for name, changes in (("without", {}), ("with", {"ema": 0.5}), ("half", {"precision": "fp16"})):
        options = OPTIONS.replace(train=train.replace(**changes))
        counts = train_speech("train", options, data, 1, str(tmp_path / name), ClusterOptions(workers=0))
        assert counts.get("skipped_updates") == (0 if name == "half" else None)
        models[name] = load_file(tmp_path / name / "model.safetensors")["decoder.embed_tokens.weight"]
        average = tmp_path / name / "checkpoints" / "update-0000004" / "average.safetensors"
        assert average.exists() == (name == "with")
        if name == "with":
            assert torch.equal(load_file(average)["decoder.embed_tokens.weight"], models[name])
    assert not torch.equal(models["with"], models["without"])


def test_the_largest_batches_are_searched_once_and_kept(
    data: SpeechData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that goes on has the batches that it began with, whatever memory there is now."""
    options = OPTIONS.replace(batch=BatchOptions(fit=True, memory=0.008, max_utterances=5))
    train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
    found = json.loads((tmp_path / "out" / "batches.json").read_text())
    assert {len(row) for row in found["table"]} == {3}
    assert all(1 <= most <= 5 for _, _, most in found["table"])
    assert "the largest batches that fit 0.008 GiB" in capsys.readouterr().out
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "batches.json").write_text(json.dumps({**found, "table": [[10_000, 100, 1]]}))
    train_speech("train", options, data, 1, str(tmp_path / "again"), ClusterOptions(workers=0))
    assert "10000      100            1" in capsys.readouterr().out
    described = [describe_training("train", one, data, 1, 1).fingerprint for one in (options, OPTIONS)]
    assert described[0] != described[1]


@pytest.mark.parametrize(("memory", "message"), [(None, "not known on a CPU"), (0.0001, "does not fit the memory")])
def test_batches_that_cannot_be_fitted_are_refused(
    data: SpeechData, tmp_path: Path, memory: float | None, message: str
) -> None:
    options = OPTIONS.replace(batch=BatchOptions(fit=True, memory=memory))
    with pytest.raises(ConfigError, match=message):
        train_speech("train", options, data, 1, str(tmp_path / "out"), ClusterOptions(workers=0))
