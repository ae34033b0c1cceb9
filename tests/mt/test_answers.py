import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.mt.answers import read_answer
from xlst_ray.mt.protocol import Translation, tidy

SENTENCE = "The cat sleeps."


def read(answer: str, sentence: str = SENTENCE, target: str = "Finnish", *, finished: bool = True) -> Translation:
    return read_answer(sentence, answer, source="English", target=target, finished=finished)


@pytest.mark.parametrize(
    "answer",
    [
        "Kissa nukkuu.",
        "  Kissa   nukkuu. \n",
        '"Kissa nukkuu."',
        "“Kissa nukkuu.”",
        "„Kissa nukkuu.“",
        "«Kissa nukkuu.»",
        "**Kissa nukkuu.**",
        '**"Kissa nukkuu."**',
        "```\nKissa nukkuu.\n```",
        "```text\nKissa nukkuu.\n```",
        "Finnish: Kissa nukkuu.",
        "**Finnish:** Kissa nukkuu.",
        "Finnish translation:\nKissa nukkuu.",
        "English: The cat sleeps.\nFinnish: Kissa nukkuu.",
        "Translation: Kissa nukkuu.",
        "Here is the translation:\n\nKissa nukkuu.",
        "Here’s the Finnish translation of your sentence: Kissa nukkuu.",
        'Sure! Here is the translation into Finnish:\n"Kissa nukkuu."',
        "The translation is:\nKissa nukkuu.",
        "Kissa nukkuu.\n\nNote: Finnish has no articles.",
        "Kissa nukkuu.\n(The cat sleeps.)",
        "Kissa nukkuu. (Note: literally, the cat is asleep)",
        "Kissa nukkuu.\n\n**Explanation:**\n* Kissa: cat\n* nukkuu: sleeps",
        "<think>\nThe cat, kissa.\n</think>\n\nKissa nukkuu.",
    ],
)
def test_what_wraps_a_translation_is_taken_off(answer: str) -> None:
    assert read(answer) == Translation("Kissa nukkuu.", "ok")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("Here is the translation:", "empty"),
        ("<think>hm</think>", "empty"),
        ("<think>The cat, or a cat", "too long"),
        (
            "I'm sorry, but I can't assist with that request.",
            "refused: I'm sorry, but I can't assist with that request.",
        ),
        ("I’m sorry, I cannot translate this.", "refused: I’m sorry, I cannot translate this."),
        ("As an AI language model, I have no cat.", "refused: As an AI language model, I have no cat."),
        ("I cannot provide a translation of this.", "refused: I cannot provide a translation of this."),
        ("Kissa nukkuu.\nKissa on unessa.", "chatty: 2 lines"),
        ("1. Kissa nukkuu.\n2. Kissa on unessa.\n3. Kissa uinuu.", "chatty: 3 lines"),
    ],
)
def test_what_is_no_translation_is_an_error_with_its_reason(answer: str, reason: str) -> None:
    assert read(answer) == Translation(None, "error", reason)


def test_an_answer_that_was_cut_off_is_an_error() -> None:
    assert read("Kissa nukkuu ja", finished=False) == Translation(None, "error", "too long")


@pytest.mark.parametrize(
    ("sentence", "answer", "target"),
    [
        ("Nemůžu přijít.", "I cannot come.", "English"),
        ("Je mi líto, že přišel.", "I'm sorry that he came.", "English"),
        ("Omlouvám se, ale nemůžu ti pomoct.", "I apologize, but I can't.", "Dutch"),
        ('"Hello," she said, "come in."', '"Hei", hän sanoi, "tule sisään."', "Finnish"),
        ('"Come in."', '"Tule sisään."', "Finnish"),
        ("Note: it is late.", "Huomaa: on myöhä.", "Finnish"),
        ("English: a language.", "Englanti: kieli.", "Finnish"),
        ("Translation: an art", "Translation: an art", "Finnish"),
        ("Finnish: a language", "Finnish: a language", "Finnish"),
        ("He said (quietly) yes.", "Hän sanoi (hiljaa) kyllä.", "Finnish"),
        ("3 * 4 * 5", "3 * 4 * 5", "Finnish"),
    ],
)
def test_translations_that_look_like_wrapping_stay_as_they_are(sentence: str, answer: str, target: str) -> None:
    result = read(answer, sentence, target)
    expected = "refused" if answer.startswith("I apologize") else None
    assert (result.error or "").startswith(expected or "")
    if expected is None:
        assert result == Translation(answer, "ok")


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Zs"]), min_size=1, max_size=40))
def test_plain_words_come_through_unchanged(text: str) -> None:
    words = tidy(text)
    expected = Translation(words, "ok") if words else Translation(None, "error", "empty")
    assert read(text) == expected


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_answer_is_a_result_of_one_tidy_line_or_an_error(answer: str, sentence: str) -> None:
    result = read(answer, sentence)
    if result.status == "ok":
        assert result.text
        assert result.text == tidy(result.text)
    else:
        assert (result.status, result.text, bool(result.error)) == ("error", None, True)
