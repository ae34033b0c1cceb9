"""The language of a sentence, by a library that brings its model: py3langid, 140 languages, numpy alone, no pickle.

Weighed against lingua (75 languages, 96 MB, better on single words) and fastText's lid.176 (a model of its own to get):
small, quick, and it knows more low-resource languages. Lui and Baldwin: "langid.py: An Off-the-shelf Language
Identification Tool", ACL 2012.
"""

from functools import cache
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from xlst_ray.languages import language

LETTERS_NEEDED: Final = 12  # of shorter sentences the model knows too little: `good morning` it takes for any of ten


def language_probability(text: str, lang: str) -> float | None:
    """How probable it is that a sentence is in a language, 0 to 1; none where the model does not know the language, or
    the sentence is too short to tell."""
    code = language(lang).base
    if code not in _codes() or sum(map(str.isalpha, text)) < LETTERS_NEEDED:
        return None
    return float(dict(_identifier().rank(text))[code])


@cache
def _codes() -> frozenset[str]:
    return frozenset(_identifier().labels)


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
