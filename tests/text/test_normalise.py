import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.errors import ConfigError
from xlst_ray.text.normalise import EXAMPLES, TextOptions, normalise, rule_name

LANGS = sorted({lang for lang, _, _ in EXAMPLES} | {"xx", "my", "lo"})
texts = st.text(max_size=40) | st.lists(
    st.sampled_from([*"aIİıŞΣςσß'’-–״\"·՞ʻoգեւ", "\u0e4d", "\u0e32", "\u0301", "\u0307", "\u200d", " ", ".", "၏"]),
    max_size=12,
).map("".join)
options = st.builds(
    TextOptions,
    lowercase=st.booleans(),
    punctuation=st.sampled_from(["remove", "keep"]),
    unicode=st.sampled_from(["NFC", "NFKC"]),
)


@pytest.mark.parametrize(("lang", "before", "after"), EXAMPLES)
def test_examples(lang: str, before: str, after: str) -> None:
    assert normalise(before, lang, TextOptions()) == after


@given(texts, st.sampled_from(LANGS), options)
def test_idempotent(text: str, lang: str, options: TextOptions) -> None:
    once = normalise(text, lang, options)
    assert normalise(once, lang, options) == once


@pytest.mark.parametrize("plane", range(3))
def test_idempotent_over_every_character(plane: int) -> None:
    words = [f"a{chr(code)}b" for code in range(max(0x20, plane << 16), (plane + 1) << 16)]
    once = [normalise(word, "en", TextOptions()) for word in words]
    assert [normalise(word, "en", TextOptions()) for word in once] == once


@given(texts, st.sampled_from(LANGS), options)
def test_whitespace_is_single_and_nothing_invisible_stays(text: str, lang: str, options: TextOptions) -> None:
    result = normalise(text, lang, options)
    assert result == " ".join(result.split(" ")).strip()
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in result)


def test_every_mark_of_punctuation_goes_and_every_letter_stays() -> None:
    """All of Unicode, by its own categories."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        kind = unicodedata.category(char)
        folded = unicodedata.normalize("NFKC", char)
        if kind[0] in "PS" and folded == char and char not in "'-":
            assert normalise(f"a{char}", "en", TextOptions()) in ("a", "a'"), hex(code)
        elif kind in ("Ll", "Lo", "Nd", "Mn", "Mc") and folded == char and code not in IGNORABLE:
            assert char in normalise(f"a {char}", "en", TextOptions()), hex(code)


IGNORABLE = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}


def test_options_keep_case_and_punctuation() -> None:
    kept = TextOptions(lowercase=False, punctuation="keep", unicode="NFC")
    assert normalise(" “Don’t”,  said\nﬁsh. ", "en", kept) == "“Don't”, said ﬁsh."
    assert normalise("Ինչպե՞ս", "hy", kept) == "Ինչպե՞ս"


def test_burmese_signs_that_are_words_stay() -> None:
    assert normalise("ကျောင်း၏၊", "my", TextOptions()) == "ကျောင်း၏"


def test_regions_follow_their_language() -> None:
    assert normalise("IŞIK", "tr-TR", TextOptions()) == "ışık"


def test_no_language_code() -> None:
    with pytest.raises(ConfigError, match="did you mean tr"):
        normalise("IŞIK", "Turkish", TextOptions())


def test_rule_name() -> None:
    assert rule_name(TextOptions()) == "lower case, no punctuation, NFKC"
    assert rule_name(TextOptions(lowercase=False, punctuation="keep", unicode="NFC")) == "cased, with punctuation, NFC"
