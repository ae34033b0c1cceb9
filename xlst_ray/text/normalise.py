"""Normalisation: the one spelling of transcripts, labels and hypotheses before anything is learned or counted.

A pure function of (text, language, options), and idempotent. `EXAMPLES` says by example what the default options do;
a test runs it.
"""

import re
import unicodedata
from functools import cache
from typing import Final, Literal

from xlst_ray.config import Section, option
from xlst_ray.languages import language

EXAMPLES: Final[tuple[tuple[str, str, str], ...]] = (
    # language, before, after
    ("en", "  “Don’t — stop,”\the said… ", "don't stop he said"),
    ("en", "A well-known ﬁx: 3.5 km² for $20!", "a well-known fix 3 5 km2 for 20"),
    ("en", "rock 'n' roll--&--blues", "rock n roll blues"),
    ("en", "stop--I ❤\ufe0f it", "stop i it"),
    ("en", "co\u00adop\u200berate\ufeff 👍🏽", "cooperate"),
    ("de", "Die STRAẞE heißt „Große Straße“.", "die straße heißt große straße"),
    ("af", "ŉ Boek, 'n boek", "n boek n boek"),
    ("nl", "’s Avonds zo’n ĲSVOGEL, ÉÉN!", "s avonds zo'n ijsvogel één"),
    ("fr", "L’été, c’est « aujourd’hui » !", "l'été c'est aujourd'hui"),
    ("ca", "Col·legi i COL·LEGI; · fi", "col·legi i col·legi fi"),
    ("cs", "Pr\u030ci\u0301lis\u030c z\u030clut\u030couc\u030cky\u0301 ku\u030an\u030c?", "příliš žluťoučký kůň"),
    ("tr", "Iğdır’da İSTANBUL ve DIŞARI", "ığdır'da istanbul ve dışarı"),
    ("az", "QIZIL İlan", "qızıl ilan"),
    ("en", "Istanbul, İstanbul", "istanbul istanbul"),
    ("uz", "Oʻzbekiston, O‘ZBEK to'g'ri bog`", "oʻzbekiston oʻzbek toʻgʻri bogʻ"),
    ("el", "ΟΔΟΣ ΟΔΥΣΣΕΩΣ; «Ναι»· όχι.", "οδος οδυσσεως ναι όχι"),
    ("ru", "Ёлка — «зелёная»!", "ёлка зелёная"),
    ("uk", "Пʼять П’ЯТЬ п'ять", "п'ять п'ять п'ять"),
    ("hy", "Ինչպե՞ս ես, և ինչո՜ւ։", "ինչպես ես և ինչու"),
    ("ar", "\u200fمرحــبا، كَيْفَ؟", "مرحبا كَيْفَ"),
    ("fa", "می\u200cروم؛ «خانه»", "میروم خانه"),
    ("he", 'צה"ל, בית־ספר', "צה״ל בית-ספר"),
    ("hi", "क्या हाल है? ठीक हूँ।", "क्या हाल है ठीक हूँ"),
    ("am", "ሰላም፡ለዓለም።", "ሰላም ለዓለም"),
    ("ja", "「はい」、ｶﾀｶﾅ・データ！", "はいカタカナデータ"),
    ("zh-CN", "你好，世界！ＡＢＣ", "你好世界abc"),
    ("th", "น้ำ “ดื่ม” มากๆ", "น้ำ ดื่ม มากๆ"),
    ("ko", "안녕, 세계!", "안녕 세계"),
)


class TextOptions(Section):
    """How text is normalised, for training and for scoring alike."""

    lowercase: bool = option(True, "Fold to lower case by the rules of the language.")
    punctuation: Literal["remove", "keep"] = option(
        "remove", "Remove punctuation and symbols; apostrophes and hyphens within words stay."
    )
    unicode: Literal["NFC", "NFKC"] = option("NFKC", "Unicode form; NFKC also folds ligatures and wide letters.")


def rule_name(options: TextOptions) -> str:
    """The rule in a few words, printed beside every score: `lower case, no punctuation, NFKC`."""
    case = "lower case" if options.lowercase else "cased"
    punctuation = "no punctuation" if options.punctuation == "remove" else "with punctuation"
    return f"{case}, {punctuation}, {options.unicode}"


def normalise(text: str, lang: str, options: TextOptions) -> str:
    """Text in one spelling: Unicode form, case, apostrophes, hyphens, punctuation and whitespace; see `EXAMPLES`.

    Controls, zero-width and bidirectional marks go, combining marks and digits stay. Punctuation becomes a space, but
    nothing in languages without spaces between words.

    Raises:
        ConfigError: `lang` is no language code.
    """
    base, spaces = language(lang).base, language(lang).spaces
    text = unicodedata.normalize(options.unicode, text.translate(_TYPOGRAPHY)).translate(_TYPOGRAPHY)
    text = text.translate(_INVISIBLE)
    if options.lowercase:
        text = _lower(text, base)
    text = _respell(text, base)
    if options.punctuation == "remove":
        text = _remove_punctuation(text, base, " " if spaces else "")
    text = unicodedata.normalize(options.unicode, " ".join(text.split()))
    return _recompose(text) if options.unicode == "NFKC" else text


_DOTTED_I: Final = frozenset({"tr", "az", "crh"})
_JOINERS: Final = {"ca": "'-·", "oc": "'-·", "he": "'-״"}  # kept within a word, not at its edges
_WORD_SIGNS: Final = {"my": "၌၍၎၏"}  # punctuation by category, words by use
_WITHIN_WORDS: Final = {"hy": "՛՜՞"}  # punctuation written on a vowel: goes without a gap
_UZBEK_LETTERS: Final = re.compile("(?<=[ogOG])['ʻ]")
_GERSHAYIM: Final = re.compile(r'(?<=\w)"(?=\w)')

# Before the Unicode form, which would make a space and an accent of the acute that stands for an apostrophe; and after
# it, which takes such signs out of others (the Afrikaans ŉ, some Arabic forms).
_TYPOGRAPHY: Final = {
    **dict.fromkeys(map(ord, "’‘‛ʼ`´＇՚׳"), "'"),
    **dict.fromkeys(map(ord, "‐‑־֊﹣－"), "-"),
    ord("ـ"): None,  # Arabic tatweel, a stretched line
}
# NFKC takes these letters apart, though their languages write them as one.
_COMPOSED: Final = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"), ("եւ", "և"))
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class _InvisibleTable(dict[int, str | None]):
    """For `str.translate`: whitespace to a space, controls, formats, surrogates and variation selectors to nothing."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        if char.isspace():
            self[code] = " "
        elif unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co", "Cs", "Me") or _IGNORABLE.match(char):
            self[code] = None
        else:
            self[code] = char
        return self[code]


class _PunctuationTable(dict[int, str]):
    """For `str.translate`: punctuation and symbols of all scripts to `gap`, but for the characters to keep."""

    def __init__(self, gap: str, keep: str) -> None:
        super().__init__()
        self.gap, self.keep = gap, keep

    def __missing__(self, code: int) -> str:
        char = chr(code)
        removed = unicodedata.category(char)[0] in "PS" and char not in self.keep
        self[code] = self.gap if removed else char
        return self[code]


_INVISIBLE: Final = _InvisibleTable()


@cache
def _punctuation_table(base: str, gap: str) -> _PunctuationTable:
    table = _PunctuationTable(gap, _JOINERS.get(base, "'-") + _WORD_SIGNS.get(base, ""))
    table.update(dict.fromkeys(map(ord, _WITHIN_WORDS.get(base, "")), ""))
    return table


def _lower(text: str, base: str) -> str:
    if base in _DOTTED_I:
        text = text.replace("I", "ı")
    # Python's own folding of the dotted capital leaves a combining dot behind.
    return text.replace("İ", "i").lower()


def _respell(text: str, base: str) -> str:
    if base == "uz":  # its letters oʻ and gʻ are typed with any apostrophe
        return _UZBEK_LETTERS.sub("ʻ", text)
    if base == "he":  # an abbreviation's mark is typed as a quotation mark
        return _GERSHAYIM.sub("״", text)
    return text


def _remove_punctuation(text: str, base: str, gap: str) -> str:
    joiners = _JOINERS.get(base, "'-")
    text = re.sub(f"[{re.escape(joiners)}]{{2,}}", " ", text.translate(_punctuation_table(base, gap)))
    return " ".join(word for word in (word.strip(joiners) for word in text.split()) if word)


def _recompose(text: str) -> str:
    for parts, letter in _COMPOSED:
        text = text.replace(parts, letter)
    return text
