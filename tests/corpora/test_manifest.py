"""Miniature manifests, good and bad, in several scripts."""

import json
from pathlib import Path
from typing import Any

import minicorpora
import pytest

from xlst_ray.corpora.corpus import Corpus
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.shards.schema import Utterance


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def options(path: Path, lang: str = "el", **changes: Any) -> CorpusOptions:
    return CorpusOptions(reader="manifest", path=str(path), lang=lang, **changes)


def said(corpus: Corpus, split: str) -> list[Utterance]:
    return [row.utterance for row in corpus.rows(split) if row.utterance is not None]


def read(path: Path, split: str = "train", **changes: Any) -> list[Utterance]:
    return minicorpora.read(options(path, **changes), split)


def test_a_row_with_every_field(tmp_path: Path) -> None:
    row = {
        "id": "a/1",
        "audio": "clips/ένα.mp3",
        "text": "Καλημέρα, κόσμε!",
        "lang": "el",
        "speaker": 7,
        "group": "doc-3",
        "offset": 1.5,
        "duration": 2,
        "translations": {"nl": "Goedemorgen, wereld!"},
        "comment": "ignored",
    }
    write(tmp_path / "train.jsonl", row)
    assert read(tmp_path) == [
        Utterance(
            id="a/1",
            audio=f"{tmp_path}/clips/ένα.mp3",
            text="Καλημέρα, κόσμε!",
            lang="el",
            split="train",
            speaker="7",
            group="doc-3",
            offset=1.5,
            duration=2.0,
            translations={"nl": "Goedemorgen, wereld!"},
        )
    ]


def test_a_row_with_the_least(tmp_path: Path) -> None:
    write(
        tmp_path / "dev.jsonl", {"audio_filepath": "/data/a.wav", "text": "да"}, {"audio": "s3://b/c.wav", "text": ""}
    )
    first, second = read(tmp_path, "dev", lang="ru")
    assert first == Utterance(id="dev-1", audio="/data/a.wav", text="да", lang="ru", split="dev")
    assert (second.id, second.audio, second.text) == ("dev-2", "s3://b/c.wav", "")


def test_fields_that_are_not_read_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"audio_filepath": "a.wav", "text": "x", "lang": "el", "pnc": "yes", "target_lang": "el", "duration": 1}
    train = write(tmp_path / "train.jsonl", row, row | {"id": "b", "speakr": "s1"}, row | {"speakr": "s2", "dur": 2})
    write(tmp_path / "dev.jsonl", row | {"speakr": "s3"})
    corpus = open_corpus(options(tmp_path))
    corpus.fingerprint()
    assert [len(said(corpus, split)) for split in ("train", "dev")] == [3, 1]
    told = [line for line in capsys.readouterr().out.splitlines() if "not read" in line]
    assert [line.partition(f"{train}, ")[2] for line in told] == [
        "row 2: fields not read: speakr",
        "row 3: fields not read: dur",
    ]


def test_the_speaker_is_the_group_where_none_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"audio": "a.wav", "text": "x", "speaker": "s1"})
    assert read(tmp_path)[0].group == "s1"


def test_splits_are_the_files_that_exist(tmp_path: Path) -> None:
    for name in ("test", "train"):
        write(tmp_path / f"{name}.jsonl", {"audio": "a.wav", "text": "x"})
    assert open_corpus(options(tmp_path)).splits() == ("train", "test")


def test_splits_may_have_other_names(tmp_path: Path) -> None:
    write(tmp_path / "training.json", {"audio": "a.wav", "text": "x"})
    corpus = open_corpus(options(tmp_path, splits={"train": "training.json"}))
    assert corpus.splits() == ("train",)
    assert [row.id for row in said(corpus, "train")] == ["training-1"]


def test_a_single_file_whose_rows_name_their_split(tmp_path: Path) -> None:
    rows = [{"audio": f"{n}.wav", "text": str(n), "split": split} for n, split in enumerate(["train", "test", "train"])]
    file = write(tmp_path / "all.jsonl", *rows)
    corpus = open_corpus(options(file))
    assert corpus.splits() == ("train", "test")
    assert [(row.id, row.text, row.audio) for row in said(corpus, "train")] == [
        ("all-1", "0", f"{tmp_path}/0.wav"),
        ("all-3", "2", f"{tmp_path}/2.wav"),
    ]
    assert [row.split for row in said(corpus, "test")] == ["test"]


def test_a_single_file_with_splits_of_other_names(tmp_path: Path) -> None:
    rows = [{"audio": "a.wav", "text": "x", "split": split} for split in ("train", "validation", "other")]
    file = write(tmp_path / "all.jsonl", *rows)
    corpus = open_corpus(options(file, splits={"train": "train", "dev": "validation"}))
    assert corpus.splits() == ("train", "dev")
    assert [row.id for row in said(corpus, "dev")] == ["all-2"]


def test_rows_of_another_language_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"audio": "a.wav", "text": lang, "lang": lang} for lang in ("nl", "el", "nl", "de")]
    write(tmp_path / "train.jsonl", *rows)
    for _ in range(2):  # for the fingerprint, and for the plan
        assert [row.text for row in read(tmp_path)] == ["el"]
    told = f"{tmp_path}/train.jsonl: of train the rows of other languages are left out: 1 de, 2 nl\n"
    assert capsys.readouterr().out == told
    with pytest.raises(DataError, match="in the language fi") as caught:
        read(tmp_path, lang="fi")
    assert "de, el, nl" in str(caught.value)


def test_limit_is_rows_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / f"{split}.jsonl", *({"audio": "a.wav", "text": "x"} for _ in range(5)))
    corpus = open_corpus(options(tmp_path, limit=2))
    assert [len(list(corpus.rows(split))) for split in corpus.splits()] == [2, 2]


def test_a_row_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"audio": "a.wav", "text": "x"}, "not json")
    with pytest.raises(DataError, match="row 2"):
        read(tmp_path)
    rows = list(open_corpus(options(tmp_path)).rows("train"))
    assert [row.utterance and row.utterance.text for row in rows] == ["x", None]
    assert len(read(tmp_path, limit=1)) == 1


def test_a_byte_order_mark_blank_lines_and_line_separators_within_text(tmp_path: Path) -> None:
    lines = '\ufeff{"audio": "a.wav", "text": "один\u2028два"}\r\n\r\n{"audio": "b.wav", "text": "три"}'
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8", newline="")
    assert [(row.id, row.text) for row in read(tmp_path)] == [("train-1", "один\u2028два"), ("train-3", "три")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio": "a.wav", "sentence": "x"}, "has no field text; it has audio, sentence"),
        ({"text": "x"}, "has no field audio"),
        ({"audio": "a.wav", "text": None}, "text is no text but None"),
        ({"audio": ["a.wav"], "text": "x"}, "audio is no text"),
        ({"audio": "a.wav", "text": "x", "duration": "2 s"}, "duration is no number of seconds"),
        ({"audio": "a.wav", "text": "x", "offset": -1}, "offset is no number of seconds"),
        ({"audio": "a.wav", "text": "x", "duration": float("nan")}, "duration is no number of seconds"),
        ({"audio": "a.wav", "text": "x", "duration": 1e308}, "duration is no number of seconds"),
        ({"audio": "a.wav", "text": "x", "offset": 10**400}, "offset is no number of seconds"),
        ({"audio": "http://host/a.wav", "text": "x"}, "http:// is no storage that is read"),
        ({"audio": "a\0.wav", "text": "x"}, "no file can have the name"),
        ({"audio": "one two three " * 30, "text": "a.wav"}, "no file can have the name"),
        ({"audio": "a.wav", "text": "x", "speaker": {}}, "speaker is no text"),
        ({"audio": "a.wav", "text": "x", "translations": ["y"]}, "translations are no texts"),
        ("[1, 2]", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"audio": "a.wav", "te', "is not a JSON object"),
        ('{"audio": "a.wav", "text": "\\ud800"}', "is not UTF-8"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict[str, Any] | str, message: str) -> None:
    file = write(tmp_path / "train.jsonl", {"audio": "a.wav", "text": "fine"}, row)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert message in caught.value.what
    assert caught.value.where == f"{file}, row 2"


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    good = b'{"audio": "a.wav", "text": "x"}\n'
    (tmp_path / "train.jsonl").write_bytes(good * 3 + '{"audio": "a.wav", "text": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="row 4: malformed: is not UTF-8"):
        read(tmp_path)


def test_no_manifest_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train, no dev, no test"):
        open_corpus(options(tmp_path)).splits()
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        open_corpus(options(tmp_path / "nowhere")).splits()
    with pytest.raises(DataError, match=r"wrong\.jsonl"):
        open_corpus(options(tmp_path, splits={"dev": "wrong.jsonl"})).splits()
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "all.jsonl")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_manifest_is_said_to_be_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"has no rows of the split train: train is empty\n  -> fill it, or name"):
        read(tmp_path)


def test_rows_of_a_single_file_must_name_a_split(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", {"audio": "a.wav", "text": "x"})
    with pytest.raises(DataError, match="has no field split"):
        open_corpus(options(bare)).splits()
    other = write(tmp_path / "other.jsonl", {"audio": "a.wav", "text": "x", "split": "valid"})
    with pytest.raises(DataError, match="has the split 'valid'"):
        open_corpus(options(other)).splits()


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    prints = []
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.jsonl", {"audio": "a.wav", "text": text})
        prints.append(open_corpus(options(tmp_path / name)).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="needs a path"):
        open_corpus(CorpusOptions(reader="manifest", lang="nl"))
    with pytest.raises(ValueError, match="unknown split valid"):
        CorpusOptions(reader="manifest", lang="nl", splits={"valid": "v.jsonl"})
