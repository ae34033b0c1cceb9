"""The script of a text, by its letters: to notice a transcript that is not in the language it is said to be in."""

import unicodedata
from collections import Counter
from functools import cache
from typing import Final

# ISO 15924 by the first word of a letter's Unicode name. A script may be written with several: Japanese with three.
_NAMES: Final = {
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    "Hans": ("CJK",),
    "Hant": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH", "HALFWIDTH"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Kore": ("HANGUL", "CJK"),
    "Laoo": ("LAO",),
    "Latn": ("LATIN", "MODIFIER"),
    "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",),
    "Nkoo": ("NKO",),
    "Olck": ("OL",),
    "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Tfng": ("TIFINAGH",),
    "Thaa": ("THAANA",),
    "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
}


def letters_by_script(text: str) -> Counter[str]:
    """Letters of a text by the first word of their Unicode names; digits, marks and punctuation are not counted."""
    return Counter(_name(character) for character in text if character.isalpha())


def script_share(text: str, script: str) -> float | None:
    """The share of the letters that are of a script (ISO 15924), 0 to 1; none: no letters, or an unknown script."""
    letters = letters_by_script(text)
    total = letters.total()
    if not total or script not in _NAMES:
        return None
    return sum(letters[name] for name in _NAMES[script]) / total


def is_written_in(text: str, script: str) -> bool | None:
    """Whether at least half of the letters are of a script (ISO 15924); none: no letters, or an unknown script."""
    share = script_share(text, script)
    return None if share is None else share >= 0.5


def share_of_letters(text: str) -> float:
    """Letters, with the marks that belong to them, among the characters that are no space; 0 where there are none."""
    kinds = [unicodedata.category(character)[0] for character in text if not character.isspace()]
    return sum(kind in "LM" for kind in kinds) / max(len(kinds), 1)


@cache
def _name(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]
