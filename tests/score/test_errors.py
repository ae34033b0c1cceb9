import json
from pathlib import Path

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.errors import DataError
from xlst_ray.score.errors import Chunk, ErrorCounts, align, char_errors, rate, word_errors

sentences = st.lists(st.sampled_from(["kat", "kater", "de", "zit", "één"]), min_size=1, max_size=6).map(" ".join)
pairs = st.lists(st.tuples(sentences, sentences | st.just("")), min_size=1, max_size=8)


def edit_distance(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


@given(pairs)
def test_rates_are_jiwers_and_counts_an_edit_distance(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    words = word_errors(references, hypotheses, "nl")
    chars = char_errors(references, hypotheses, "nl")
    assert rate(words) == pytest.approx(100 * jiwer.wer(references, hypotheses))
    assert rate(chars) == pytest.approx(100 * jiwer.cer(references, hypotheses))
    for (reference, hypothesis), word, char in zip(pairs, words, chars, strict=True):
        assert word.errors == edit_distance(reference.split(), hypothesis.split())
        assert char.errors == edit_distance(list(reference), list(hypothesis))
        assert (word.reference, char.reference) == (len(reference.split()), len(reference))
        assert word.insertions - word.deletions == len(hypothesis.split()) - len(reference.split())


def test_kinds_of_errors() -> None:
    assert word_errors(["a b c d"], ["a x c d e f"], "en") == [ErrorCounts(1, 0, 2, 4)]
    assert word_errors(["a b c d"], ["a d"], "en") == [ErrorCounts(0, 2, 0, 4)]
    assert char_errors(["ab cd"], ["abcd"], "en") == [ErrorCounts(0, 1, 0, 5)]


def test_empty_references_are_insertions() -> None:
    counts = word_errors(["", "a b"], ["x y z", "a b"], "en")
    assert counts[0] == ErrorCounts(0, 0, 3, 0)
    assert rate(counts) == 150
    assert char_errors([""], [""], "en") == [ErrorCounts()]


def test_only_empty_references_have_no_rate() -> None:
    with pytest.raises(DataError, match="no reference"):
        rate(word_errors(["", ""], ["x", ""], "en"))


def test_languages_without_spaces_count_characters_and_no_spaces() -> None:
    references, hypotheses = ["你好 世界", "再见"], ["你 好世", "再见"]
    assert word_errors(references, hypotheses, "zh-CN") == [ErrorCounts(0, 1, 0, 4), ErrorCounts(0, 0, 0, 2)]
    assert char_errors(references, hypotheses, "zh-CN") == word_errors(references, hypotheses, "zh-CN")


def test_as_many_hypotheses_as_references() -> None:
    for count in (word_errors, char_errors):
        with pytest.raises(ValueError, match="2 references, 1 hyp"):
            count(["a", "b"], ["a"], "en")


def test_alignment() -> None:
    assert align("de kat zit hier op", "die kat hier op nu", "nl") == [
        Chunk("substitute", "de", "die"),
        Chunk("equal", "kat", "kat"),
        Chunk("delete", "zit", ""),
        Chunk("equal", "hier op", "hier op"),
        Chunk("insert", "", "nu"),
    ]
    assert align("你好", "你们好", "zh") == [
        Chunk("equal", "你", "你"),
        Chunk("insert", "", "们"),
        Chunk("equal", "好", "好"),
    ]


@given(sentences | st.just(""), sentences | st.just(""))
def test_alignment_spells_both_sides(reference: str, hypothesis: str) -> None:
    chunks = align(reference, hypothesis, "nl")
    assert " ".join(c.reference for c in chunks if c.reference) == reference
    assert " ".join(c.hypothesis for c in chunks if c.hypothesis) == hypothesis


def test_nists_sclite_counts_the_same_errors() -> None:
    """`make_sclite.py` made them. In 3 of 90 sentences its weighted alignment finds one wrong character too many."""
    rows = json.loads(Path(__file__).with_name("sclite.json").read_text(encoding="utf-8"))
    assert len(rows) == 90
    surplus = []
    for row in rows:
        texts = [row["reference"]], [row["hypothesis"]], row["lang"]
        assert word_errors(*texts)[0].errors == row["word_errors"], row
        surplus.append(row["char_errors"] - char_errors(*texts)[0].errors)
    assert set(surplus) == {0, 1}
    assert sum(surplus) == 3
