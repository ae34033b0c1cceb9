"""The tokenizer of transformers' Speech2Text, against transformers."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.errors import DataError
from xlst_ray.text.ids import UNK
from xlst_ray.text.speech2text import write_tokenizer
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary

TEXTS = ["de kat zit in de keuken", "één kat en twee katten", "waar is de keuken dan", "zo'n auto's in de stad"]
OTHERS = ["de kat eet", "een stad", "xyz kat", "", "keukenkat zo'n één"]


def foreign(folder: Path) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def write_fairseqs(folder: Path, kind: str) -> None:
    """As fairseq's conversion leaves them: SentencePiece's own numbers, and a dictionary in another order."""
    output = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=output,
        model_type=kind,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(output.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=output.getvalue())
    pieces = [processor.id_to_piece(number) for number in range(3, len(processor))]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *reversed(pieces), "madeupword0000"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Speech2TextTokenizer"}))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_foreign_tokenizer_is_a_vocabulary_that_cuts_text_as_transformers_does(tmp_path: Path, kind: str) -> None:
    write_fairseqs(tmp_path, kind)
    ours, theirs = Vocabulary.load(tmp_path), foreign(tmp_path)
    assert {piece: number for number, piece in enumerate(ours.pieces)} == theirs.get_vocab()
    for text in TEXTS + OTHERS:
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids) == theirs.decode([token for token in ids if token != UNK], skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_our_vocabulary_is_a_tokenizer_there(tmp_path: Path, kind: str) -> None:
    ours = train_vocabulary(TEXTS, VocabularyOptions(kind=kind, size=40))
    write_tokenizer(tmp_path, ours.to_bytes(), ours.pieces)
    theirs, again = foreign(tmp_path), Vocabulary.load(tmp_path)
    assert again.pieces == ours.pieces
    for text in TEXTS + OTHERS:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == [*ids, 2]
        assert again.encode(text) == ids
        assert theirs.decode(ids, skip_special_tokens=True) == again.decode(ids) == ours.decode(ids)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_fairseqs(tmp_path, "unigram")
    ids = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**ids, "extra": 99}))
    with pytest.raises(DataError, match="ids are not 0, 1, 2"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\xff\xff\xff")
    with pytest.raises(DataError, match="cannot be read"):
        Vocabulary.load(tmp_path)
