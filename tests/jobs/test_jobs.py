"""The jobs as a newcomer meets them: what they tell, and what they say to wrong input before any work is done."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pydantic.fields import FieldInfo

from xlst_ray import storage
from xlst_ray.cli import run_job
from xlst_ray.config import Section, load
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.stage import Stage, run_stage
from xlst_ray.text.vocabulary import VocabularyOptions, train_vocabulary

ROOT = Path(__file__).parent.parent.parent
KINDS = {
    "prepare": "PrepareJob",
    "train_mt": "MTJob",
    "pseudo_label": "LabelJob",
    "encode": "EncodeJob",
    "train": "TrainJob",
    "evaluate": "EvaluateJob",
    "export": "ExportJob",
    "transcribe": "TranscribeJob",
    "validate": "ValidateJob",
    "run": "Experiment",
    "tune": "Experiment",
}
TESTED_WITH_CLUSTERS = {"submit", "doctor"}  # they do no work themselves


def module(job: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"job_{job}", ROOT / "jobs" / f"{job}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


MODULES = {job: module(job) for job in KINDS}


def kind(job: str) -> type[Section]:
    found: type[Section] = getattr(MODULES[job], KINDS[job])
    return found


def start(job: str, *arguments: str) -> int:
    loaded = MODULES[job]
    work = getattr(loaded, {"run": "run_experiment", "tune": "run_sweep"}.get(job, "work"))
    return run_job(kind(job), work, loaded.__doc__, list(arguments))


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a job that must end with 2 and a message, and returns the message."""

    def run(job: str, *arguments: str) -> str:
        assert start(job, *arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert "Traceback" not in err
        return err

    return run


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section with its field, `<name>` standing for the entries of mappings."""
    for name, field in section.model_fields.items():
        entry = get_args(field.annotation)[1] if get_origin(field.annotation) is dict else None
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field
        if isinstance(entry, type) and issubclass(entry, Section):
            yield from leaves(entry, f"{prefix}{name}.<name>.")


def test_every_job_is_tested_here() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == KINDS.keys() | TESTED_WITH_CLUSTERS


@pytest.mark.parametrize("job", KINDS)
def test_help_lists_every_key_with_type_unit_default_and_meaning(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        start(job, "--help")
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert f"jobs/{job}.py" in out
    keys = list(leaves(kind(job)))
    assert keys
    for key, field in keys:
        number = next((n for n, line in enumerate(lines) if line.startswith(f"  {key} : ")), None)
        assert number is not None, key
        assert field.description
        described = f"      {field.description}".splitlines()
        assert lines[number + 1 : number + 1 + len(described)] == described
        type_and_unit, comma, default = lines[number].removeprefix(f"  {key} : ").rpartition(", ")
        assert comma
        if field.is_required():
            assert default == "required"
        else:
            assert "default " in lines[number]
        if isinstance(field.json_schema_extra, dict) and "unit" in field.json_schema_extra:
            assert f"[{field.json_schema_extra['unit']}]" in type_and_unit


@pytest.mark.parametrize("job", KINDS)
def test_every_key_misspelt_is_answered_with_the_right_one(job: str) -> None:
    for key, _ in leaves(kind(job)):
        misspelt = f"{key}{key[-1]}"
        with pytest.raises(ConfigError) as caught:
            load(kind(job), None, [f"{misspelt}=1"])
        assert caught.value.what == f"unknown key {misspelt}"
        assert caught.value.hint == f"did you mean {key}?"


@pytest.mark.parametrize("job", KINDS)
def test_without_anything_a_job_says_what_it_needs(job: str, refused: Refused) -> None:
    message = refused(job)
    for name, field in kind(job).model_fields.items():
        assert (f"{name}: is required" in message) == field.is_required()
    assert "--help" in message


@pytest.mark.parametrize("config", sorted((ROOT / "jobs" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_we_ship_are_read(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment: Any = load(kind("run"), config)
    assert experiment.workspace == f"{tmp_path}/runs"  # the workers of Ray Train have other working folders
    assert type(experiment).model_validate(experiment.resolved()) == experiment


DEMO = str(ROOT / "jobs" / "configs" / "demo.yaml")


@pytest.mark.parametrize(
    ("job", "arguments", "says"),
    [
        ("run", ["seeds=1"], "seeds: must be a list"),
        ("run", ["seeds=[1, 1]"], "seeds holds an entry twice"),
        ("run", ["arms=[foo]"], "'joint' (given 'foo')"),
        ("run", ["target.corpus.lang=en"], "source and target are the same language (en)"),
        ("run", ["source.corpus.lang=english"], "did you mean en (English)?"),
        ("run", ["asr.train.ctc_weight=0"], "a CTC head needs a weight above 0"),
        ("run", ["model.ctc=false", "evaluate.beam.ctc_weight=0"], "a weight needs the head"),
        ("run", ["model.heads=7"], "multiple of the heads (7)"),
        ("run", ["asr.train.warmup=9999"], "asr.train: warmup (9999) is longer than updates"),
        ("run", ["asr.train.validate_every=9999"], "is longer than updates"),
        ("run", ["asr.train.betas=[0.9, 1]"], "betas"),
        ("run", ["name=../elsewhere"], "name: "),
        ("run", ["name=.."], "name: "),
        ("run", ["engines.new.labels.buckets=4"], "engines.new has neither a path nor sentence pairs"),
        ("run", ["engines.lm.keep.language=0.5"], "engines.lm.keep is for scores: set engines.lm.scores=true"),
        ("run", ["engines.lm.labels.engine.engine=human"], "that is the arm st-human"),
        ("run", ["source.shards.min_seconds=9", "source.shards.max_seconds=3"], "min_seconds 9.0 is above"),
        ("tune", [], "nothing is to vary"),
        ("tune", ["search.preset=quick", "search.stop=pbt"], "copies the weights of one running trial into another"),
        ("tune", ["search.preset=quick", "search.grace=300"], "none would be stopped"),
        ("tune", ["search.space.seeds.choice=[1]"], "seeds may not vary"),
        ("run", ["target.shards.min_chars=9", "target.shards.max_chars=3"], "min_chars 9 is above"),
    ],
)
def test_contradictions_are_refused_before_any_work(
    job: str, arguments: list[str], says: str, refused: Refused, tmp_path: Path
) -> None:
    assert says in refused(job, "--config", DEMO, f"workspace={tmp_path}/out", *arguments)
    assert not (tmp_path / "out").exists()


# From here on: wrong data.


def tone() -> bytes:
    buffer = io.BytesIO()
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(8000) / 16_000)
    soundfile.write(buffer, wave.astype(np.float32), 16_000, format="FLAC")
    return buffer.getvalue()


def write_shards(folder: Path) -> None:
    """The finished stage of a small English corpus with Dutch translations: six, two, two utterances."""

    def work(out: str) -> dict[str, Any]:
        counts = {}
        for split, number in {"train": 6, "dev": 2, "test": 2}.items():
            rows = [
                {"id": f"{split}/{n}", "audio": tone(), "duration": 0.5, "text": f"good morning {split} {n}",
                 "lang": "en", "speaker": f"s{n}", "group": f"s{n}",
                 "translations": [("nl", f"goedemorgen {split} {n}")]}
                for n in range(number)
            ]  # fmt: skip
            storage.write_table(f"{out}/{split}/shard-00000.parquet", pa.Table.from_pylist(rows, SHARD_SCHEMA))
            counts[split] = {"kept": number}
        return counts

    run_stage(Stage("prepare-en", {"corpus": {"reader": "manifest", "lang": "en"}}, {"corpus": "x"}), str(folder), work)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(tmp_path / "shards")
    return tmp_path / "shards"


SCHEDULE = ["train.updates=2", "train.validate_every=1", "train.warmup=0"]
MT = ["source=en", "target=nl", "pairs.a.kind=shards", "dev_pairs=2", *SCHEDULE]
SMALL_MT = [*MT, "model.dim=16", "model.heads=2", "model.layers=1", "model.ffn=16", "cluster.workers=0"]


@pytest.fixture(scope="module")
def trained_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model from English to Dutch, by the job itself, without Ray."""
    folder = tmp_path_factory.mktemp("mt")
    write_shards(folder / "shards")
    assert start("train_mt", *SMALL_MT, f"pairs.a.path={folder}/shards", f"out={folder}/model") == 0
    return folder / "model"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"audio": "a.wav"}, "train.jsonl, row 2: has no field text; it has audio"),
        ({"text": "a"}, "train.jsonl, row 2: has no field audio_filepath"),
        ({"audio": "a.wav", "text": 3}, "train.jsonl, row 2: text is no text but 3"),
        ("{", "train.jsonl, row 2: is not a JSON object"),
    ],
)
def test_a_manifest_with_a_bad_row_is_named_with_the_row(row: Any, says: str, refused: Refused, tmp_path: Path) -> None:
    good = json.dumps({"audio": "a.wav", "text": "a"})
    (tmp_path / "train.jsonl").write_text(f"{good}\n{row if isinstance(row, str) else json.dumps(row)}\n")
    arguments = ["corpus.reader=manifest", "corpus.lang=en", f"corpus.path={tmp_path}", f"out={tmp_path}/out"]
    message = refused("prepare", *arguments)
    assert says in message
    assert "1 of 2 rows cannot be used" in message
    assert "max_rejected" in message
    assert not list((tmp_path / "out").glob("train"))


def test_a_table_without_a_transcript_column_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("client_id\tpath\nx\ta.mp3\n")
    arguments = ["corpus.reader=common_voice", "corpus.lang=en", f"corpus.path={tmp_path}", f"out={tmp_path}/out"]
    message = refused("prepare", *arguments)
    assert "train.tsv" in message
    assert "sentence" in message


@pytest.mark.parametrize("reader", ["manifest", "common_voice", "fish_fillets"])
@pytest.mark.parametrize("place", ["nothing", "empty", "file"])
def test_a_corpus_that_is_not_there_is_said_with_what_should_be(
    reader: str, place: str, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    path = f"corpus.path={tmp_path}/{place}"
    message = refused("prepare", f"corpus.reader={reader}", "corpus.lang=cs", path, f"out={tmp_path}/out")
    assert message.startswith(f"error: {tmp_path}/{place}: ")
    assert "\n  -> " in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reader", ["manifest", "common_voice", "fish_fillets"])
def test_a_corpus_without_a_path_is_said(reader: str, refused: Refused, tmp_path: Path) -> None:
    assert "needs a path" in refused("prepare", f"corpus.reader={reader}", "corpus.lang=cs", f"out={tmp_path}/out")


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        ("train", ["shards={bad}"]),
        ("train", ["shards={shards}", "labels={bad}"]),
        ("train", ["shards={shards}", "init={bad}"]),
        ("pseudo_label", ["shards={bad}", "target=nl", "engine.engine=human"]),
        ("evaluate", ["shards={bad}", "model={bad}"]),
    ],
)
def test_a_folder_that_is_no_finished_stage_is_named(
    job: str, arguments: list[str], refused: Refused, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "stage.json").write_text("{}")
    for bad, says in {
        "nothing": "no manifest.json",
        "file": "no manifest.json",
        "begun": "begun but not finished",
    }.items():
        given = [argument.format(bad=tmp_path / bad, shards=shards) for argument in arguments]
        message = refused(job, *given, f"out={tmp_path}/out")
        assert message.startswith(f"error: {tmp_path}/{bad}: ")
        assert says in message
        assert "\n  -> " in message


@pytest.mark.parametrize(
    ("job", "arguments", "wanted"),
    [
        ("train", ["shards={mt}"], "shards, which jobs/prepare.py makes"),
        ("train", ["shards={shards}", "labels={shards}"], "labels, which jobs/pseudo_label.py makes"),
        ("train", ["shards={shards}", "init={shards}"], "a model, which jobs/train.py makes"),
        ("evaluate", ["shards={shards}", "model={shards}"], "a model, which jobs/train.py makes"),
        ("evaluate", ["shards={shards}", "model={mt}"], "a model, which jobs/train.py makes"),
        ("pseudo_label", ["shards={mt}", "target=nl", "engine.engine=human"], "shards, which jobs/prepare.py makes"),
    ],
)
def test_the_folder_of_another_kind_of_stage_is_named(
    job: str, arguments: list[str], wanted: str, refused: Refused, shards: Path, trained_lm: Path, tmp_path: Path
) -> None:
    given = [argument.format(mt=trained_lm, shards=shards) for argument in arguments]
    message = refused(job, *given, f"out={tmp_path}/out")
    assert "holds the stage" in message
    assert f", not {wanted}\n" in message


def test_a_shard_cut_in_half_is_named(refused: Refused, shards: Path, tmp_path: Path) -> None:
    shard = shards / "train" / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    for job, more in {"train": [], "train_mt": [*MT, f"pairs.a.path={shards}"]}.items():
        first = [f"shards={shards}"] if job == "train" else []
        message = refused(job, *first, *more, f"out={tmp_path}/{job}")
        assert message.startswith(f"error: {shard}: cannot be read as Parquet")
        assert "run that job" in message
    assert not (tmp_path / "train" / "manifest.json").exists()


@pytest.mark.parametrize("job", ["train", "pseudo_label", "train_mt"])
@pytest.mark.parametrize("way", ["file", "file/below", "/proc/nowhere"])
def test_an_out_that_cannot_be_written_is_named(
    job: str, way: str, refused: Refused, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    out = way if way.startswith("/") else f"{tmp_path}/{way}"
    first = {
        "train": [f"shards={shards}"],
        "pseudo_label": [f"shards={shards}", "target=nl", "engine.engine=human"],
        "train_mt": [*MT, f"pairs.a.path={shards}"],
    }[job]
    message = refused(job, *first, f"out={out}")
    assert message.startswith(f"error: {out}")
    assert ("is a file, not a folder" if way == "file" else "cannot be written") in message
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (["engine.engine=phrasebook", "engine.table={table}"], "table.tsv: has no column of the language de"),
        (["engine.path={mt}"], "translates en to nl, not en to de"),
        (["engine.path={nothing}"], "is no folder of a trained-lm"),
        (["engine.path={shards}"], "is no folder of a trained-lm model: it has no config.json"),
        ([], "engine trained-lm needs a path"),
        (["engine.engine=phrasebook"], "engine phrasebook needs a table"),
        (["engine.engine=phrasebook", "engine.table={shards}"], "it is a folder"),
        (
            ["engine.engine=human", "engine.path={mt}"],
            "path is for engine trained-lm, transformers, ctranslate2, vllm, not human",
        ),
    ],
)
def test_a_language_that_no_engine_has_is_refused(
    engine: list[str], says: str, refused: Refused, shards: Path, trained_lm: Path, tmp_path: Path
) -> None:
    (tmp_path / "table.tsv").write_text("en\tnl\ngood morning\tgoedemorgen\n")
    places = {"table": tmp_path / "table.tsv", "mt": trained_lm, "nothing": tmp_path / "nothing", "shards": shards}
    given = [argument.format(**places) for argument in engine]
    assert says in refused("pseudo_label", f"shards={shards}", "target=de", f"out={tmp_path}/out", *given)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_labels_in_the_language_that_is_spoken_are_refused(refused: Refused, shards: Path, tmp_path: Path) -> None:
    arguments = [f"shards={shards}", "target=en", "engine.engine=human", f"out={tmp_path}/out"]
    assert "the speech is in en already" in refused("pseudo_label", *arguments)


def test_a_model_is_not_scored_on_another_language(refused: Refused, shards: Path, tmp_path: Path) -> None:
    run_stage(Stage("asr-nl", {"lang": "nl"}, {}), str(tmp_path / "model"), lambda _: {})
    message = refused("evaluate", f"shards={shards}", f"model={tmp_path}/model", f"out={tmp_path}/out")
    assert "writes nl, but the references are in en\n  -> name labels of these shards in nl with labels=" in message


def test_no_sentence_pairs_are_said_with_the_next_step(refused: Refused, shards: Path, tmp_path: Path) -> None:
    message = refused("train_mt", "source=en", "target=nl", f"out={tmp_path}/out")
    assert "0 sentence pairs are too few" in message
    assert "under pairs" in message
    # and the mended command may use the same folder
    mended = [*SMALL_MT, f"pairs.a.path={shards}", f"out={tmp_path}/out"]
    assert start("train_mt", *mended) == 0


SMALL_ASR = [
    "model.size=debug", "train.updates=2", "train.warmup=0", "train.validate_every=1", "train.average=1",
    "pieces.kind=char", "batch.max_ctc_infeasible=1", "cluster.workers=0", "batch.min_utterance_frames=1",
]  # fmt: skip


def test_further_sources_are_trained_on_as_their_weights_say(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = ([*SMALL_ASR, f"shards={shards}", f"out={tmp_path}/{name}"] for name in ("one", "two"))
    assert start("train", *one) == start("train", *two, f"sources.more.shards={shards}", "sources.more.weight=2") == 0
    alone, both = (storage.read_json(f"{tmp_path}/{name}/manifest.json") for name in ("one", "two"))
    assert both["counts"]["kept"] == 2 * alone["counts"]["kept"]
    assert both["config"]["sources"] == {"more": 2.0}
    assert both["inputs"]["shards-more"] == both["inputs"]["shards"]
    assert "sources" not in alone["config"]
    message = refused("train", *two, f"sources.more.shards={shards}")
    assert "sources.more differ" in message


def test_a_model_with_tags_writes_the_language_that_is_asked_for(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on transcripts and on translations in one run, scored on both, each of which starts from its tag."""
    labels, model, clip = tmp_path / "labels", tmp_path / "model", tmp_path / "clip.flac"
    clip.write_bytes(tone())
    human = ["target=nl", "engine.engine=human", "cluster.translators=0"]
    assert start("pseudo_label", f"shards={shards}", f"out={labels}", *human) == 0
    more = [f"sources.nl.shards={shards}", f"sources.nl.labels={labels}", "pieces.tags=true"]
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={model}", *more) == 0
    assert storage.read_json(f"{model}/manifest.json")["config"]["writes"] == ["en", "nl"]
    search = [f"model={model}", "cluster.decoders=0", "beam.beam=2"]
    assert start("evaluate", *search, f"shards={shards}", f"out={tmp_path}/en") == 0
    assert start("evaluate", *search, f"shards={shards}", f"labels={labels}", f"out={tmp_path}/nl") == 0
    english, dutch = (storage.read_table(f"{tmp_path}/{name}/hypotheses.parquet") for name in ("en", "nl"))
    assert english["reference"].to_pylist() == ["good morning test 0", "good morning test 1"]
    assert dutch["reference"].to_pylist() == ["goedemorgen test 0", "goedemorgen test 1"]
    assert english["score"].to_pylist() != dutch["score"].to_pylist(), "they start from other tokens"
    manifest = storage.read_json(f"{labels}/manifest.json")
    manifest["counts"]["content"] += 1  # as where what had failed was tried again
    storage.write_json(f"{labels}/manifest.json", manifest)
    changed = refused("evaluate", *search, f"shards={shards}", f"labels={labels}", f"out={tmp_path}/nl")
    assert "holds another test stage (input labels differ)" in changed
    assert start("transcribe", *search, f"audio=[{clip}]", f"out={tmp_path}/text", "lang=nl") == 0
    assert "no tag of sv" in refused("transcribe", *search, f"audio=[{clip}]", f"out={tmp_path}/sv", "lang=sv")


@pytest.mark.parametrize("job", ["train", "train with a vocabulary", "a further source", "evaluate"])
def test_labels_of_other_shards_are_no_labels_to_delete(
    job: str, refused: Refused, shards: Path, tmp_path: Path
) -> None:
    """Whose ids may well be the same, so that it is not seen by them."""
    human = ["target=nl", "engine.engine=human", "cluster.translators=0", f"out={tmp_path}/labels"]
    assert start("pseudo_label", f"shards={shards}", *human) == 0
    other = tmp_path / "other"
    shutil.copytree(shards, other)
    about = storage.read_json(f"{other}/manifest.json")
    storage.write_json(f"{other}/manifest.json", {**about, "fingerprint": "of others"})
    run_stage(Stage("asr-nl", {"lang": "nl"}, {}), f"{tmp_path}/model", lambda _: {})
    train_vocabulary(["goedemorgen"], VocabularyOptions(kind="char"), tmp_path / "vocabulary")
    asked = {
        "train": ["train", *SMALL_ASR, f"labels={tmp_path}/labels"],
        "train with a vocabulary": [
            "train", "cluster.workers=0", f"labels={tmp_path}/labels", f"vocabulary={tmp_path}/vocabulary"
        ],
        "a further source": [
            "train", *SMALL_ASR, f"sources.more.shards={other}", f"sources.more.labels={tmp_path}/labels"
        ],
        "evaluate": ["evaluate", f"model={tmp_path}/model", f"labels={tmp_path}/labels"],
    }[job]  # fmt: skip
    message = refused(*asked, f"shards={other}", f"out={tmp_path}/out")
    assert f"{tmp_path}/labels: these labels were made for other shards than {other}" in message
    assert "delete" not in message


def test_how_a_vocabulary_is_made_is_not_said_beside_one_that_is_there(
    refused: Refused, shards: Path, tmp_path: Path
) -> None:
    message = refused("train", *SMALL_ASR, f"shards={shards}", f"vocabulary={shards}", f"out={tmp_path}/asr")
    assert "pieces: says how a vocabulary is made, and vocabulary= names one that is there" in message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["labels=labels", "keep.script=0.9"], "keep: has no effect without scores\n  -> set scores=true"),
        (["keep.script=0.9"], "keep: has no effect without scores\n  -> set scores=true"),
        (["scores=true"], "scores: are those of labels, and none are named"),
        (["sources={a: {shards: a, keep: {script: 0.9}}}"], "sources.a: keep is for the scores of labels"),
    ],
)
def test_thresholds_on_no_scores_are_refused(
    settings: list[str], says: str, refused: Refused, shards: Path, tmp_path: Path
) -> None:
    message = refused("train", f"shards={shards}", f"out={tmp_path}/asr", *settings)
    assert says in message


def test_a_recording_that_cannot_be_decoded_is_the_exit_status_of_the_others_too(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr") == 0
    (tmp_path / "good.flac").write_bytes(tone())
    (tmp_path / "bad.flac").write_bytes(b"fLaC, but no sound")
    transcribe = [f"model={tmp_path}/asr", "beam.beam=1", "cluster.decoders=0"]
    assert start("transcribe", *transcribe, f"audio={tmp_path}/good.flac", f"out={tmp_path}/one") == 0
    for _ in range(2):  # as well where it was done before
        message = refused("transcribe", *transcribe, f"audio={tmp_path}/*.flac", f"out={tmp_path}/two")
        assert f"{tmp_path}/two/failed.jsonl: 1 of 2 recordings cannot be decoded" in message
        assert "the others are transcribed" in message
    assert (tmp_path / "two" / "good.json").read_bytes() == (tmp_path / "one" / "good.json").read_bytes()
    alone = refused("transcribe", *transcribe, f"audio={tmp_path}/bad.flac", f"out={tmp_path}/three")
    assert "1 of 1 recordings cannot be decoded" in alone
    assert "others" not in alone


def test_transcribing_goes_on_with_what_was_mended_changed_or_added(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr") == 0
    (tmp_path / "in").mkdir()
    for name, data in {"kept": tone(), "changed": tone(), "mended": b"fLaC, but no sound"}.items():
        (tmp_path / "in" / f"{name}.flac").write_bytes(data)
    text = tmp_path / "text"
    transcribe = [f"model={tmp_path}/asr", "beam.beam=1", "cluster.decoders=0", f"audio={tmp_path}/in", f"out={text}"]
    assert "run the same command again" in refused("transcribe", *transcribe)
    first = {name: (text / f"{name}.json").stat().st_ino for name in ("kept", "changed")}
    for name in ("mended", "added"):
        (tmp_path / "in" / f"{name}.flac").write_bytes(tone())
    os.utime(tmp_path / "in" / "changed.flac", ns=(0, 0))
    capsys.readouterr()
    assert start("transcribe", *transcribe) == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-2])["recordings"] == 4
    assert out.endswith(f"{text} is done\n")
    assert (text / "failed.jsonl").read_text() == ""
    assert (text / "kept.json").stat().st_ino == first["kept"], "what was done is not done again"
    assert storage.read_json(f"{text}/changed.json")["changed"] == 0
    assert all((text / f"{name}.json").exists() for name in ("mended", "added"))
    assert start("transcribe", *transcribe) == 0
    assert capsys.readouterr().out.endswith(f"{text} was done before\n")
    assert "holds another transcribe stage (beam.beam differ)" in refused("transcribe", *transcribe, "beam.beam=2")


@pytest.mark.parametrize("own", ["talk.txt", "talk.json"])
def test_transcripts_are_not_written_over_files_of_ones_own(
    refused: Refused, shards: Path, tmp_path: Path, own: str
) -> None:
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr") == 0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "talk.flac").write_bytes(tone())
    (tmp_path / "in" / own).write_text("what was really said")
    transcribe = [f"model={tmp_path}/asr", "beam.beam=1", "cluster.decoders=0"]
    message = refused("transcribe", *transcribe, f"audio={tmp_path}/in", f"out={tmp_path}/in")
    assert f"{tmp_path}/in/{own}: is there already, and a transcript would be written over it" in message
    assert (tmp_path / "in" / own).read_text() == "what was really said"
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["talk.flac", own]


def test_nor_are_they_where_recordings_are_added_later(refused: Refused, shards: Path, tmp_path: Path) -> None:
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr") == 0
    talks = tmp_path / "in" / "talks"
    talks.mkdir(parents=True)
    transcribe = [f"model={tmp_path}/asr", "beam.beam=1", "cluster.decoders=0", f"audio={tmp_path}/in"]
    transcribe += [f"out={tmp_path}/in"]
    (talks / "a.flac").write_bytes(tone())
    assert start("transcribe", *transcribe) == 0
    (talks / "b.flac").write_bytes(tone())
    (talks / "b.txt").write_text("what was really said")
    assert f"{talks}/b.txt: is there already" in refused("transcribe", *transcribe)
    (talks / "b.txt").unlink()
    assert start("transcribe", *transcribe) == 0
    assert (talks / "b.txt").exists()


def test_other_recordings_of_the_same_names_and_sizes_are_others(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train", *SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr") == 0
    for day in ("one", "two"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "0001.flac").write_bytes(tone())
    transcribe = [f"model={tmp_path}/asr", "beam.beam=1", "cluster.decoders=0", f"out={tmp_path}/text"]
    for said in ("is done", "was done before"):
        assert start("transcribe", *transcribe, f"audio={tmp_path}/one") == 0
        assert f"{tmp_path}/text {said}" in capsys.readouterr().out
    other = refused("transcribe", *transcribe, f"audio={tmp_path}/two")
    assert f"{tmp_path}/text/0001.json: is the transcript of {tmp_path}/one/0001.flac" in other
    assert storage.read_json(f"{tmp_path}/text/0001.json")["audio"] == f"{tmp_path}/one/0001.flac"


def test_a_job_lists_no_keys_that_mean_nothing_to_it() -> None:
    place = {"cluster.address", "cluster.by_role", "cluster.cpus"}
    decoding = {"cluster.decoders", "cluster.decoder_cpus", "cluster.decoder_gpus"}
    wanted = {"prepare": {"cluster.workers"}, "validate": {"cluster.workers"}, "export": None}
    wanted |= dict.fromkeys(("encode", "evaluate", "transcribe"), decoding)
    for job, more in wanted.items():
        listed = {key for key, _ in leaves(kind(job)) if key.startswith("cluster.")}
        assert listed == (set() if more is None else place | more)


def test_a_job_is_done_once_and_another_one_does_not_take_its_folder(
    refused: Refused, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL_ASR, f"shards={shards}", f"out={tmp_path}/asr"]
    assert start("train", *arguments) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path}/asr is done\n")
    weights = (tmp_path / "asr" / "model.safetensors").read_bytes()
    assert start("train", *arguments) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path}/asr was done before\n")
    message = refused("train", *arguments, "train.lr=0.5")
    assert "holds another train stage (train.lr differ)" in message
    assert "choose another output folder" in message
    assert (tmp_path / "asr" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_said_at_once(address: str, tmp_path: Path) -> None:
    # In a process of its own: this one may be in a cluster already.
    (tmp_path / "train.jsonl").write_text('{"audio": "a.wav", "text": "a"}\n')
    arguments = ["corpus.reader=manifest", "corpus.lang=en", f"corpus.path={tmp_path}", f"out={tmp_path}/out"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "prepare.py"), *arguments],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"error: cluster.address={address}: cannot reach the Ray cluster" in done.stderr
    assert "Traceback" not in done.stderr
