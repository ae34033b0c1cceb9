"""Miniature Common Voice releases as Mozilla ships them."""

from pathlib import Path
from typing import Any

import minicorpora
import pytest

from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

OLD = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment")
NEW = ("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender",
       "accents", "variant", "locale", "segment")  # fmt: skip


def release(folder: Path, columns: tuple[str, ...] = NEW, **splits: list[dict[str, str]]) -> Path:
    (folder / "clips").mkdir(parents=True)
    for split, rows in splits.items():
        lines = ["\t".join(columns), *("\t".join(row.get(name, "") for name in columns) for row in rows)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def options(path: Path, **changes: Any) -> CorpusOptions:
    return CorpusOptions(reader="common_voice", path=str(path), lang="mn", **changes)


def row(number: int, sentence: str = "Сайн байна уу?", client: str = "a" * 128) -> dict[str, str]:
    return {"client_id": client, "path": f"common_voice_mn_{number}.mp3", "sentence": sentence, "up_votes": "2"}


@pytest.mark.parametrize("columns", [OLD, NEW], ids=["old", "new"])
def test_rows_of_old_and_new_releases(tmp_path: Path, columns: tuple[str, ...]) -> None:
    folder = release(tmp_path / "mn", columns, train=[row(1), row(2, 'Тэр "явна" гэв'), row(3, client="b" * 128)])
    first, second, third = minicorpora.read(options(folder), "train")
    assert first == Utterance(
        id="common_voice_mn_1",
        audio=f"{folder}/clips/common_voice_mn_1.mp3",
        text="Сайн байна уу?",
        lang="mn",
        split="train",
        speaker=first.speaker,
        group=first.speaker,
    )
    assert second.text == 'Тэр "явна" гэв'
    assert first.speaker == second.speaker != third.speaker
    assert len(first.speaker) == 12


def test_a_quotation_mark_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", test=[row(1, '"Καλημέρα'), row(2, "κόσμε"), row(3, "\u2028")])
    assert [item.text for item in minicorpora.read(options(folder), "test")] == ['"Καλημέρα', "κόσμε", "\u2028"]


def test_clips_of_the_first_releases_have_no_extension(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[{**row(1), "path": "abc"}])
    (item,) = minicorpora.read(options(folder), "train")
    assert (item.id, item.audio) == ("abc", f"{folder}/clips/abc.mp3")


def test_a_speaker_without_an_id_is_unknown(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[row(1, client="")])
    (item,) = minicorpora.read(options(folder), "train")
    assert (item.speaker, item.group) == ("", "")


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[row(1)])
    file = folder / "train.tsv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (item,) = minicorpora.read(options(folder), "train")
    assert item.text == "Сайн байна уу?"


def test_splits_are_those_that_exist_or_those_that_are_named(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[row(1)], test=[row(2)], validated=[row(1), row(2), row(3)])
    assert open_corpus(options(folder)).splits() == ("train", "test")
    named = open_corpus(options(folder, splits={"train": "validated", "test": "test"}))
    assert named.splits() == ("train", "test")
    assert len(list(named.rows("train"))) == 3
    assert named.fingerprint() != open_corpus(options(folder)).fingerprint()
    with pytest.raises(DataError, match="has no other"):
        open_corpus(options(folder, splits={"train": "other"})).splits()


def test_another_folder_says_what_is_expected(tmp_path: Path) -> None:
    release(tmp_path / "cv-corpus-17.0" / "mn", train=[row(1)])
    with pytest.raises(DataError, match="has no train, no dev, no test") as caught:
        open_corpus(options(tmp_path / "cv-corpus-17.0")).splits()
    assert "clips/" in str(caught.value.hint)


def test_a_missing_column_lists_those_there(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", ("client_id", "path", "text"), train=[row(1)])
    with pytest.raises(DataError, match="has no column sentence; it has client_id, path, text"):
        minicorpora.read(options(folder), "train")


def test_an_empty_index_has_no_columns(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn")
    (folder / "train.tsv").touch()
    with pytest.raises(DataError, match="has no column client_id, path, sentence"):
        minicorpora.read(options(folder), "train")


def test_a_row_of_another_width_is_named(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[row(1), row(2, "a\tb")])
    with pytest.raises(DataError, match=r"train\.tsv, row 3: malformed: has 14 columns where the header has 13"):
        minicorpora.read(options(folder), "train")


def test_a_clip_that_stands_twice_is_rejected(tmp_path: Path) -> None:
    folder = release(tmp_path / "mn", train=[row(1), row(2), row(1)])
    with pytest.raises(DataError, match=r"row 4: duplicate-id: an earlier row has the id 'common_voice_mn_1'"):
        minicorpora.read(options(folder), "train")
