import pickle
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.text.ids import BOS, EOS, PAD, SPECIALS, UNK
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary

TEXTS = {
    "bg": ["добро утро", "добър ден на всички", "къде е кухнята", "утре ще е добър ден"],
    "el": ["καλημέρα σε όλους", "πού είναι η κουζίνα", "αύριο θα είναι καλή μέρα"],
    "zh": ["你好世界", "再见世界", "世界很大", "厨房在哪里"],
    "nl": ["zo'n auto's", "de kat zit in de keuken", "één kat en twee katten"],
}
CHAR, UNIGRAM = VocabularyOptions(kind="char"), VocabularyOptions(size=60)
JOINT = train_vocabulary([text for texts in TEXTS.values() for text in texts], VocabularyOptions(size=200))


@pytest.mark.parametrize("options", [CHAR, UNIGRAM], ids=["char", "unigram"])
@pytest.mark.parametrize("lang", TEXTS)
def test_round_trip(lang: str, options: VocabularyOptions) -> None:
    vocabulary = train_vocabulary(TEXTS[lang], options)
    for text in TEXTS[lang]:
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        assert min(ids) > UNK
        assert max(ids) < len(vocabulary)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([text for texts in TEXTS.values() for text in texts]), min_size=1).map(" ".join))
def test_joint_round_trip(text: str) -> None:
    assert JOINT.decode(JOINT.encode(text)) == text


def test_special_tokens_have_fairseqs_ids() -> None:
    assert JOINT.pieces[:4] == ("<s>", "<pad>", "</s>", "<unk>") == SPECIALS
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)


def test_decode_skips_special_tokens() -> None:
    kat = JOINT.encode("kat")
    assert JOINT.decode([BOS, *kat, UNK, EOS, PAD, PAD]) == "kat"
    assert JOINT.decode([]) == ""


def test_what_no_piece_fits_is_unknown() -> None:
    assert UNK in JOINT.encode("kat 🐈")
    assert set(JOINT.encode("<s> </s>")) & {BOS, EOS} == set()


def test_characters_are_as_many_as_the_text_has() -> None:
    vocabulary = train_vocabulary(["abc ab", "ca"], VocabularyOptions(kind="char", size=5))
    assert sorted(vocabulary.pieces[4:]) == ["a", "b", "c", "▁"]


def test_coverage_leaves_rare_characters_unknown() -> None:
    texts = ["abab " * 50 + letter for letter in "xyz"]
    vocabulary = train_vocabulary(texts, VocabularyOptions(kind="char", coverage=0.99))
    assert vocabulary.encode("x")[-1] == UNK
    assert UNK not in vocabulary.encode("ab")


def test_a_unigram_model_keeps_to_its_size_and_takes_fewer_from_a_small_text() -> None:
    texts = [f"{a}{b} {b}{c}{a}" for a in "abcdefgh" for b in "klmnop" for c in "uvwxyz"]
    assert len(train_vocabulary(texts, VocabularyOptions(size=50))) == 50
    assert len(train_vocabulary(["ab ba"], VocabularyOptions(size=5000))) < 20


def test_the_set_of_sentences_alone_decides() -> None:
    texts = TEXTS["nl"] + TEXTS["bg"]
    one = train_vocabulary(texts, UNIGRAM)
    other = train_vocabulary(iter([*reversed(texts), texts[0], ""]), UNIGRAM)
    assert one.fingerprint == other.fingerprint
    assert one.to_bytes() == other.to_bytes()
    assert train_vocabulary(texts[1:], UNIGRAM).fingerprint != one.fingerprint


def test_no_sentence_is_too_long() -> None:
    assert UNK not in train_vocabulary(["ab " * 5000 + "ø"], CHAR).encode("ø")


def test_files_and_pickles(tmp_path: Path) -> None:
    train_vocabulary(TEXTS["el"], UNIGRAM, tmp_path / "made")
    loaded = Vocabulary.load(tmp_path / "made")
    again = Vocabulary.from_bytes(loaded.to_bytes())
    sent = pickle.loads(pickle.dumps(loaded))  # noqa: S301 -- as Ray sends it
    text = TEXTS["el"][0]
    assert loaded.encode(text) == again.encode(text) == sent.encode(text)
    assert loaded.fingerprint == again.fingerprint == sent.fingerprint
    foreign = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "made" / "vocabulary.model"))
    assert foreign.encode(text) == loaded.encode(text)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text"):
        train_vocabulary(texts, UNIGRAM)


def test_fewer_pieces_than_characters() -> None:
    with pytest.raises(ConfigError, match=r"vocabulary\.size.*8 pieces are too few"):
        train_vocabulary(TEXTS["bg"], VocabularyOptions(size=8))


@pytest.mark.parametrize("content", [b"", b"garbage", JOINT.to_bytes()[:100]])
def test_what_is_no_vocabulary(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocabulary.model").write_bytes(content)
    with pytest.raises(DataError, match=r"vocabulary\.model"):
        Vocabulary.load(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\n.*jobs/train.py without vocabulary= makes one"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("kind", ["char", "unigram"])
def test_tags_are_tokens_that_no_text_has(kind: str) -> None:
    texts = ["de kat zit in de keuken", "2 < 3 en 3 > 2", "kissa on keittiössä"]
    plain = train_vocabulary(texts, VocabularyOptions(kind=kind, size=60), languages=["nl", "fi"])
    assert plain.tags == {}
    assert plain.to_bytes() == train_vocabulary(texts, VocabularyOptions(kind=kind, size=60)).to_bytes()
    assert plain.target("de kat", "xx") == plain.encode("de kat")
    vocabulary = train_vocabulary(texts, VocabularyOptions(kind=kind, size=60, tags=True), languages=["nl", "fi", "nl"])
    assert vocabulary.tags == {"fi": 4, "nl": 5}
    assert vocabulary.pieces[4:6] == ("<2fi>", "<2nl>")
    assert {"▁", "k", "ö", "<", "2", ">"} <= set(vocabulary.pieces)
    assert not {4, 5} & set(vocabulary.encode("<2fi> kissa <2nl>"))
    assert vocabulary.target("de kat", "nl") == [5, *vocabulary.encode("de kat")]
    assert vocabulary.target("", "nl") == []
    assert vocabulary.decode(vocabulary.target("de kat", "nl")) == "de kat"
    with pytest.raises(ConfigError, match="no tag of sv"):
        vocabulary.target("katt", "sv")


def test_tags_that_are_not_asked_for_leave_the_configuration_what_it_was() -> None:
    assert "tags" not in VocabularyOptions().identity()
    assert VocabularyOptions(tags=True).identity()["tags"]
