"""How a translation looks beside its source: a score for each way in which it can be bad. Nothing is decided here.

Pure functions of (source, translation, languages); `EXAMPLES` says by example what each tells, and a test runs it.
The choice follows NVIDIA's Granary (Interspeech 2025) and its filters of translated labels: script and length ratio,
language identification, repeated n-grams, over-long words, stock phrases.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from xlst_ray.languages import language
from xlst_ray.text.leakage import sentence_key
from xlst_ray.text.normalise import TextOptions, normalise
from xlst_ray.text.script import script_share

Filter = Callable[[str, str, str, str], float | None]

NGRAM: Final = 3  # words (characters, where no spaces) whose repetition counts
_SHORT_WORD: Final = 3  # shorter ones than four letters are alike in many languages
_NUMBER: Final = re.compile(r"\d+(?:[.,\u00a0\u202f' ]\d{3})*")
_RULE: Final = TextOptions()


def length_ratio(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Characters of the translation for each of the source; what is usual depends on the pair of languages."""
    length = len("".join(source.split()))
    return len("".join(translation.split())) / length if length else None


def script(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Share of the translation's letters that are of the target language's script."""
    return script_share(translation, language(target_lang).script)


def repetition(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Share of the translation's n-grams that stand in it before, above that of the source: a loop of the decoder."""
    return max(0.0, _repeated(translation, target_lang) - _repeated(source, source_lang))


def longest_word(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Characters of the longest word; none where words have no spaces between them."""
    if not language(target_lang).spaces:
        return None
    return float(max(map(len, translation.split()), default=0))


def copied(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """1 where the translation is the source, whatever its case and punctuation; else 0."""
    return float(sentence_key(source, source_lang) == sentence_key(translation, source_lang))


def untranslated(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Share of the translation's words of four letters or more that stand in the source, too; none without such."""
    words = [word for word in _words(translation, target_lang) if len(word) > _SHORT_WORD]
    if not words or not language(target_lang).spaces:
        return None
    there = set(_words(source, source_lang))
    return sum(word in there for word in words) / len(words)


def numbers(source: str, translation: str, source_lang: str, target_lang: str) -> float | None:
    """Share of the numbers in digits that both sides have; none where a side has none: it may spell them out."""
    left, right = _numbers(source), _numbers(translation)
    if not left or not right:
        return None
    return (left & right).total() / max(left.total(), right.total())


FILTERS: Final[dict[str, Filter]] = {
    function.__name__: function
    for function in (length_ratio, script, repetition, longest_word, copied, untranslated, numbers)
}

EXAMPLES: Final[tuple[tuple[str, str, str, str, str, float | None], ...]] = (
    # filter, languages, source, translation, score
    ("length_ratio", "en", "de", "good day", "guten tag", 8 / 7),
    ("length_ratio", "en", "zh-CN", "good morning", "早安", 2 / 11),
    ("length_ratio", "en", "de", " ", "guten tag", None),
    ("script", "en", "ru", "yes", "да, 42!", 1.0),
    ("script", "en", "ka", "good morning", "დილა morning", 4 / 11),
    ("script", "en", "ja", "data", "データです", 1.0),
    ("script", "en", "de", "42", "42", None),
    ("repetition", "en", "de", "very good", "sehr gut sehr gut sehr gut sehr gut", 4 / 6),
    ("repetition", "en", "de", "no no no no no", "nein nein nein nein nein", 0.0),
    ("repetition", "en", "th", "water", "น้ำน้ำน้ำน้ำ", 0.7),
    ("repetition", "en", "de", "yes", "ja", 0.0),
    ("longest_word", "en", "de", "a steamboat", "ein Dampfschiff", 11.0),
    ("longest_word", "en", "th", "water", "น้ำน้ำน้ำน้ำ", None),
    ("copied", "en", "de", "Good morning.", "good morning", 1.0),
    ("copied", "en", "de", "Good morning.", "Guten Morgen.", 0.0),
    ("untranslated", "en", "de", "the red house", "das red house hier", 1 / 2),
    ("untranslated", "en", "de", "in an hour", "in 'ner h", None),
    ("numbers", "en", "de", "1,234 of 5678", "1.234 von 5678", 1.0),
    ("numbers", "en", "ar", "bus 42", "الحافلة ٤٢", 1.0),
    ("numbers", "en", "de", "bus 42", "Bus 24", 0.0),
    ("numbers", "en", "de", "3 and 3", "3", 1 / 2),
    ("numbers", "en", "de", "forty-two", "42", None),
)


def _words(text: str, lang: str) -> list[str]:
    return normalise(text, lang, _RULE).split()


def _repeated(text: str, lang: str) -> float:
    key = normalise(text, lang, _RULE)
    units = key.split() if language(lang).spaces else list(key.replace(" ", ""))
    ngrams = [tuple(units[start : start + NGRAM]) for start in range(len(units) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _numbers(text: str) -> Counter[int]:
    """Numbers by value, in digits of any script, with or without marks between thousands."""
    return Counter(int("".join(char for char in found if char.isdecimal())) for found in _NUMBER.findall(text))
