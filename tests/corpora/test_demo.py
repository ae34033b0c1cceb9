import io

import pytest
import soundfile

from xlst_ray.corpora.corpus import Corpus
from xlst_ray.corpora.demo import read_audio
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import Utterance

SMALL = DemoOptions(
    source_train=40,
    source_dev=8,
    source_test=8,
    target_train=12,
    target_dev=6,
    target_test=30,
    source_train_speakers=5,
    target_train_speakers=3,
    dev_speakers=2,
    test_speakers=4,
)


def demo(lang: str, **changes: object) -> Corpus:
    return open_corpus(CorpusOptions(reader="demo", lang=lang, demo=SMALL.replace(**changes)))


def said(corpus: Corpus, split: str) -> list[Utterance]:
    return [row.utterance for row in corpus.rows(split) if row.utterance is not None]


def test_rows_have_their_counts_and_ids_of_their_own() -> None:
    counts = {"en": {"train": 40, "dev": 8, "test": 8}, "fi": {"train": 12, "dev": 6, "test": 30}}
    for lang, expected in counts.items():
        corpus = demo(lang)
        rows = {split: said(corpus, split) for split in corpus.splits()}
        assert {split: len(found) for split, found in rows.items()} == expected
        ids = [row.id for found in rows.values() for row in found]
        assert len(set(ids)) == len(ids)
        assert all((row.lang, row.split) == (lang, split) for split, found in rows.items() for row in found)


def test_english_rows_carry_the_finnish_translation_and_finnish_rows_none() -> None:
    english, finnish = said(demo("en"), "train")[0], said(demo("fi"), "train")[0]
    assert english.translations.keys() == {"fi"}
    assert finnish.translations == {}
    assert set(english.text) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_speakers_take_turns_and_are_the_groups() -> None:
    corpus = demo("fi")
    speakers = {split: [row.speaker for row in said(corpus, split)] for split in corpus.splits()}
    assert [speakers["train"].count(name) for name in sorted(set(speakers["train"]))] == [4, 4, 4]
    assert not set(speakers["train"]) & set(speakers["test"])
    assert all(row.group == row.speaker for row in said(corpus, "test"))


def test_audio_is_spoken_on_reading() -> None:
    for lang in ("en", "fi"):
        row = said(demo(lang), "test")[0]
        samples, rate = soundfile.read(io.BytesIO(read_audio(row.audio)))
        assert 1.0 < len(samples) / rate < 4.0


def test_fingerprint_follows_what_this_language_reads() -> None:
    assert demo("en").fingerprint() == demo("en").fingerprint() != demo("fi").fingerprint()
    assert demo("en", target_test=20, mt_pairs=5).fingerprint() == demo("en").fingerprint()
    for change in ({"seed": 1}, {"source_train": 41}, {"dev_speakers": 3}, {"snr_low": 10.0}):
        assert demo("en", **change).fingerprint() != demo("en").fingerprint(), change


def test_open_corpus_knows_it() -> None:
    corpus = open_corpus(CorpusOptions(reader="demo", lang="fi", limit=3, demo=SMALL))
    assert len(said(corpus, "train")) == 3


def test_another_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="en and fi"):
        demo("sv")
