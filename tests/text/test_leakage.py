from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.errors import DataError, LeakageError
from xlst_ray.text.leakage import find_overlap, is_named, match, sentence_key, sentence_keys, sum_matches

TEST = ["Waar is de vis?", "Ja.", "Zo’n grote haai heb ik nog nooit gezien!"]


@pytest.mark.parametrize(
    ("lang", "one", "other"),
    [
        ("nl", "Zo’n  grote HAAI!", "zo'n grote haai"),
        ("de", "Große Straße", "GROSSE STRASSE."),
        ("tr", "IŞIK", "ışık"),
        ("el", "Ο ΔΡΟΜΟΣ;", "ο δρομος"),
        ("cs", "Pr\u030cíliš", "příliš"),
        ("zh", "你好， 世界", "你好世界。"),
    ],
)
def test_spellings_of_one_sentence(lang: str, one: str, other: str) -> None:
    assert sentence_key(one, lang) == sentence_key(other, lang)


def test_words_are_not_glued() -> None:
    assert sentence_key("waar om", "nl") != sentence_key("waarom", "nl")


def test_keys_of_held_out_sentences() -> None:
    assert sentence_keys(["Ja!", "Nee, nee.", "...", "ja"], "nl") == {"ja", "nee nee"}
    assert sentence_keys(["Ja!", "Nee, nee."], "nl", min_words=2) == {"nee nee"}
    assert sentence_keys(["你", "你好"], "zh", min_words=2) == {"你好"}


def test_counts_by_text_and_split() -> None:
    labels = ["waar is de vis", "WAAR IS DE VIS", "ja", "nee", "...", "zo'n grote haai heb ik nog nooit gezien"]
    report = find_overlap({"test": TEST, "dev": ["Nee!", "Ja."]}, {"labels-mt": labels, "asr-nl": ["goed"]}, "nl")
    assert [(o.training, o.held_out) for o in report.overlaps] == [
        ("labels-mt", "test"), ("labels-mt", "dev"), ("asr-nl", "test"), ("asr-nl", "dev"),
    ]  # fmt: skip
    test, dev, clean, _ = report.overlaps
    assert (test.sentences, test.overlapping, test.distinct, test.short) == (5, 4, 3, 1)
    assert test.share == 0.8
    assert test.examples == ("zo'n grote haai heb ik nog nooit gezien", "waar is de vis", "ja")
    assert (dev.overlapping, dev.distinct, dev.short) == (2, 2, 2)
    assert (clean.overlapping, clean.share, clean.examples) == (0, 0.0, ())


def test_short_sentences_may_be_no_overlap() -> None:
    (overlap,) = find_overlap({"test": TEST}, {"mt": ["ja", "waar is de vis"]}, "nl", min_words=3).overlaps
    assert (overlap.overlapping, overlap.short) == (1, 0)


def test_refuses_by_name() -> None:
    report = find_overlap({"test": TEST}, {"asr-nl": ["goed"], "labels-mt": ["ja", "Waar is de vis"]}, "nl")
    with pytest.raises(LeakageError) as caught:
        report.refuse()
    message = str(caught.value)
    for part in ("labels-mt", "2 of 2", "100.00 %", "'Waar is de vis'", "'ja'", "leakage.drop", "leakage.allow"):
        assert part in message
    assert isinstance(caught.value, DataError)
    with pytest.raises(LeakageError):
        report.refuse(["asr-nl"])
    report.refuse(["labels-mt"])
    report.refuse(["labels-*"])


def test_three_examples_at_most() -> None:
    sentences = [f"dit is zin {letter}" for letter in "abcdef"]
    (overlap,) = find_overlap({"test": sentences}, {"mt": sentences}, "nl").overlaps
    assert len(overlap.examples) == 3


def test_nothing_to_refuse() -> None:
    find_overlap({"test": TEST}, {"asr": ["goed"], "empty": []}, "nl").refuse()


def test_training_texts_are_streams() -> None:
    def sentences() -> Iterator[str]:
        yield "ja"

    report = find_overlap({"test": iter(TEST), "dev": iter(TEST)}, {"mt": sentences()}, "nl")
    assert [overlap.overlapping for overlap in report.overlaps] == [1, 1]


def test_table() -> None:
    report = find_overlap({"test": TEST}, {"labels-mt": ["ja", "Waar is de vis", "goed"], "asr": ["goed"]}, "nl")
    assert report.table().splitlines() == [
        "training text  held out  sentences  overlap    share  distinct  <= 2 words",
        "labels-mt      test              3        2  66.67 %         2           1",
        "asr            test              1        0   0.00 %         0           0",
    ]


def test_names() -> None:
    assert is_named("labels-mt", ["asr", "labels-*"])
    assert not is_named("labels-mt", ["labels"])


@given(st.lists(st.text("abAB .!’'", max_size=6)), st.lists(st.text("abAB .!’'", max_size=6)))
def test_dropping_by_key_leaves_no_overlap(held_out: list[str], training: list[str]) -> None:
    """The planner's way of dropping and the check agree."""
    keys = sentence_keys(held_out, "en")
    kept = [text for text in training if sentence_key(text, "en") not in keys]
    (before,) = find_overlap({"test": held_out}, {"mt": training}, "en").overlaps
    (after,) = find_overlap({"test": held_out}, {"mt": kept}, "en").overlaps
    assert after.overlapping == 0
    assert before.overlapping == len(training) - len(kept)


@given(st.lists(st.sampled_from(["Waar is de vis?", "waar is de vis", "Ja!", "niets", ""])), st.integers(0, 9))
def test_parts_of_a_text_match_as_the_whole(texts: list[str], cut: int) -> None:
    keys = sentence_keys(TEST, "nl")
    parts = [match(part, keys, "nl") for part in (texts[:cut], texts[cut:])]
    whole = match(texts, keys, "nl")
    assert sum_matches(parts) == sum_matches(reversed(parts))
    assert (sum_matches(parts)["sentences"], sum_matches(parts)["rows"]) == (whole["sentences"], whole["rows"])
    assert all(sentence_key(text, "nl") == key for key, text in sum_matches(parts)["spelling"].items())
