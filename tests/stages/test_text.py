"""Held-out sentences stay out of training; the vocabulary covers what is trained on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from xlst_ray import storage
from xlst_ray.errors import DataError, LeakageError
from xlst_ray.shards.schema import SHARD_SCHEMA
from xlst_ray.stages.text import (
    HELD_OUT_FILE,
    HeldOut,
    make_vocabulary,
    read_held_out,
    without_held_out,
    write_held_out,
)
from xlst_ray.text.leakage import LeakageOptions, sentence_key
from xlst_ray.text.normalise import TextOptions, normalise
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions

TEST = ["Hyvää huomenta!", "Kiitos.", "Missä on asema?"]
DEV = ["Hei hei.", "Minä asun Turussa."]
TRAIN = ["Tämä on uusi lause.", "kiitos", "MINÄ ASUN TURUSSA", "Asema on tuolla.", "Kiitos paljon."]


def write_shards(folder: Path, split: str, texts: Sequence[str], per_shard: int = 2) -> None:
    for start in range(0, len(texts), per_shard):
        rows = [
            {"id": f"{split}-{start}-{n}", "audio": b"", "duration": 1.0, "text": text, "lang": "fi", "speaker": "",
             "group": "", "translations": []}
            for n, text in enumerate(texts[start : start + per_shard])
        ]  # fmt: skip
        url = str(folder / split / f"shard-{start:05d}.parquet")
        storage.write_table(url, pa.Table.from_pylist(rows, SHARD_SCHEMA))


@pytest.fixture
def held_out(tmp_path: Path) -> HeldOut:
    write_shards(tmp_path / "shards", "test", TEST)
    write_shards(tmp_path / "shards", "dev", DEV)
    write_shards(tmp_path / "shards", "train", TRAIN)
    return HeldOut(str(tmp_path / "shards"), "fi", LeakageOptions())


def test_every_test_and_dev_sentence_of_every_shard_is_held_out(tmp_path: Path, held_out: HeldOut) -> None:
    folder = str(tmp_path / "held-out")
    assert write_held_out(held_out, folder) == {"sentences": 5}
    keys = read_held_out(f"{folder}/{HELD_OUT_FILE}")
    assert keys == {sentence_key(text, "fi") for text in TEST + DEV} == held_out.keys


def test_training_texts_lose_held_out_sentences_however_they_are_spelt(held_out: HeldOut) -> None:
    keys = held_out.keys
    assert list(without_held_out(TRAIN, keys, "fi")) == ["Tämä on uusi lause.", "Asema on tuolla.", "Kiitos paljon."]
    long = replace(held_out, options=LeakageOptions(min_words=2)).keys
    assert "kiitos" in list(without_held_out(TRAIN, long, "fi"))
    assert "MINÄ ASUN TURUSSA" not in list(without_held_out(TRAIN, long, "fi"))


def test_leakage_is_refused_unless_it_is_dropped_or_allowed(
    held_out: HeldOut, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LeakageError, match="labels-lm"):
        held_out.check({"labels-lm": TRAIN})
    assert "labels-lm" in capsys.readouterr().out  # the counts are shown before it is judged
    for options in (LeakageOptions(drop=("labels-*",)), LeakageOptions(allow=("labels-lm",))):
        report = replace(held_out, options=options).check({"labels-lm": iter(TRAIN)})
        assert sorted((o.held_out, o.overlapping) for o in report.overlaps) == [("dev", 1), ("test", 1)]
    clean = without_held_out(TRAIN, held_out.keys, "fi")
    assert not any(o.overlapping for o in held_out.check({"train": clean}).overlaps)


def test_no_test_split_is_said(tmp_path: Path) -> None:
    write_shards(tmp_path, "dev", DEV)
    with pytest.raises(DataError, match=r"split test\n  -> it has dev: run .*splits={dev: ..., test: ...}, the"):
        _ = HeldOut(str(tmp_path), "fi", LeakageOptions()).keys


def test_the_vocabulary_covers_the_normalised_texts_of_all_languages(tmp_path: Path) -> None:
    text, options = TextOptions(), VocabularyOptions(kind="char")
    sources = [("fi", TRAIN), ("el", ["Καλημέρα ΚΌΣΜΕ"])]
    counts = make_vocabulary(sources, text, options, str(tmp_path))
    vocabulary = Vocabulary.load(tmp_path)
    assert counts == {"pieces": len(vocabulary), "vocabulary": vocabulary.fingerprint}
    for lang, sentences in sources:
        for sentence in sentences:
            normalised = normalise(sentence, lang, text)
            assert vocabulary.decode(vocabulary.encode(normalised)) == normalised
    characters = {c for lang, sentences in sources for s in sentences for c in normalise(s, lang, text)} - {" "}
    assert {piece for piece in vocabulary.pieces if len(piece) == 1 and piece != "▁"} == characters
