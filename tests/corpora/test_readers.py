"""What is the same for every reader: its miniature comes out as what is said in it, and nothing of it is lost."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import minicorpora
import numpy as np
import pytest
from minicorpora import TEXTS, TRANSLATED

from xlst_ray import storage
from xlst_ray.audio.decode import decode_flac
from xlst_ray.corpora.convert import convert_shard, plan_shards, sum_counts
from xlst_ray.corpora.open import CLASSES, open_corpus
from xlst_ray.corpora.options import PATHS, CorpusOptions, Reader
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.shards.files import shard_urls
from xlst_ray.shards.options import ShardOptions
from xlst_ray.shards.schema import SAMPLE_RATE


@pytest.fixture(scope="module", params=minicorpora.MINIATURES)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CorpusOptions:
    return minicorpora.make(request.param, tmp_path_factory.mktemp("corpora") / request.param)


def letters_heard(data: bytes) -> Iterator[str]:
    """The tones of a recording, by their pitches."""
    wave = decode_flac(data)
    for start in range(0, len(wave) - 1000, int(0.16 * SAMPLE_RATE)):
        part = wave[start : start + int(0.16 * SAMPLE_RATE)]
        pitch = np.abs(np.fft.rfft(part)).argmax() * SAMPLE_RATE / len(part)
        yield "abcdefgh"[round(np.log(pitch / 300) / np.log(1.5))]


def test_what_is_written_is_what_is_heard(corpus: CorpusOptions, tmp_path: Path) -> None:
    options = ShardOptions(rows_per_shard=2)
    plans = plan_shards(open_corpus(corpus), str(tmp_path), options)
    counts = sum_counts(convert_shard(url, str(tmp_path), options) for url in plans.urls)
    assert counts["rejected"] == {"malformed": 1}
    assert (counts["rows"], plans.rows) == (5, 5)
    for split, texts in TEXTS.items():
        rows = [row for url in shard_urls(str(tmp_path), split) for row in storage.read_table(url).to_pylist()]
        assert [row["text"].lower() for row in rows] == texts
        assert ["".join(letters_heard(row["audio"])) for row in rows] == texts
        expected = [{"en": text.upper()} if corpus.reader in TRANSLATED else {} for text in texts]
        assert [dict(row["translations"]) for row in rows] == expected
        assert all(row["lang"] == "xx" and row["id"] for row in rows)


def test_the_row_that_cannot_be_understood_is_named(corpus: CorpusOptions) -> None:
    (bad,) = (row for row in open_corpus(corpus).rows("train") if row.utterance is None)
    assert corpus.path in bad.where
    assert bad.reason == "malformed"
    assert bad.detail


def test_ids_are_of_the_row_alone(corpus: CorpusOptions) -> None:
    """Whatever is read before it."""
    opened = open_corpus(corpus)
    ids = [row.utterance.id for row in opened.rows("train") if row.utterance]
    first = next(row.utterance for row in open_corpus(corpus.replace(limit=1)).rows("train"))
    assert first is None or first.id == ids[0]
    assert len(set(ids)) == len(ids) == len(TEXTS["train"])


def test_the_place_is_no_part_of_the_fingerprint_but_the_recordings_are(corpus: CorpusOptions, tmp_path: Path) -> None:
    root = next(path for path in (Path(corpus.path), *Path(corpus.path).parents) if path.name == corpus.reader)
    shutil.copytree(root, tmp_path / "moved")
    moved = corpus.replace(path=corpus.path.replace(str(root), str(tmp_path / "moved")))
    for file in (tmp_path / "moved").rglob("*.jsonl.gz"):  # Lhotse's name their recordings by whole paths
        shutil.copy(root / file.name, file)
    fingerprint = open_corpus(corpus).fingerprint()
    assert open_corpus(moved).fingerprint() == fingerprint == open_corpus(corpus).fingerprint()
    assert open_corpus(moved.replace(limit=1)).fingerprint() != fingerprint
    if corpus.reader != "lhotse":
        names = ("*.wav", "*.mp3", "*.flac", "*.ogg", "*.opus", "*.m4a", "*.parquet", "*.tar")
        recording = next(path for name in names for path in sorted((tmp_path / "moved").rglob(name)))
        with recording.open("ab") as file:
            file.write(bytes(512))
        if recording.suffix != ".parquet":  # whose end must stay its end
            assert open_corpus(moved).fingerprint() != fingerprint


@pytest.mark.parametrize("reader", [reader for reader in get_args(Reader) if reader != "demo"])
@pytest.mark.parametrize("place", ["xx-en", "xx/en", "empty"])
def test_a_folder_of_something_else_says_what_should_be_there(reader: str, place: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True)
    translations = {"translations": {"en": "x.tsv"}} if reader == "covost" else {}
    options = CorpusOptions(reader=reader, path=str(tmp_path / place), lang="xx", **translations)
    with pytest.raises(DataError) as caught:
        open_corpus(options).splits()
    assert caught.value.where == str(tmp_path / place)
    assert caught.value.hint


def test_a_part_that_is_not_there_is_named(corpus: CorpusOptions) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_corpus(corpus.replace(splits={"train": "nowhere"})).splits()


def test_parts_may_be_joined(corpus: CorpusOptions) -> None:
    parts = dict(corpus.splits) or dict(open_corpus(corpus).reader.parts)
    joined = open_corpus(corpus.replace(splits={"train": f"{parts['dev']}+{parts['test']}"}))
    rows = [row.utterance or row for row in joined.rows("train")]
    texts = [row.text.lower() for row in rows if not hasattr(row, "reason")]
    duplicates = [row for row in rows if getattr(row, "reason", "") == "duplicate-id"]  # of LibriSpeech's lone chapter
    assert texts == [*TEXTS["dev"], *TEXTS["test"]][: len(texts)]
    assert len(texts) + len(duplicates) == 2


def test_every_reader_has_a_class_a_path_and_a_miniature() -> None:
    readers = set(get_args(Reader))
    assert readers == CLASSES.keys() == PATHS.keys()
    assert readers - {"demo", "fish_fillets"} == minicorpora.MINIATURES.keys()


def test_options_of_other_readers_are_refused() -> None:
    for wrong in ({"columns": {"text": "x"}}, {"translations": {"en": "x"}}, {"demo": {"seed": 9}}):
        with pytest.raises(ValueError, match="is not used by the reader mls"):
            CorpusOptions(reader="mls", lang="nl", path="/x", **wrong)


def test_archives_of_fleurs_that_are_still_packed_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "train.tar.gz").touch()
    (tmp_path / "train.tsv").write_text("1\t1.wav\tGoedendag.\tgoedendag\tg|o\t16000\tMALE\n")
    options = CorpusOptions(reader="fleurs", path=str(tmp_path), lang="nl")
    with pytest.raises(DataError, match=r"audio/train.tar.gz: is not unpacked") as caught:
        list(open_corpus(options).rows("train"))
    assert f"-C {tmp_path}/audio" in str(caught.value.hint)
    (tmp_path / "audio" / "train").mkdir()
    assert len(list(open_corpus(options).rows("train"))) == 1


def test_covost_without_a_table_of_translations_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs translations"):
        open_corpus(CorpusOptions(reader="covost", lang="nl", path="/x"))


def test_of_rows_with_the_same_id_the_first_stays(tmp_path: Path) -> None:
    rows = [{"id": name, "audio": "a.wav", "text": "x"} for name in ("a", "b", "c", "b", "b", "d")]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = CorpusOptions(reader="manifest", lang="nl", path=str(tmp_path))
    found = list(open_corpus(options).rows("train"))
    assert [row.reason if row.utterance is None else row.utterance.id for row in found] == [
        "a", "b", "c", "duplicate-id", "duplicate-id", "d",
    ]  # fmt: skip
    assert found[3].where.endswith("row 4")
