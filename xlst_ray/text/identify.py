"""Which language texts are in, by py3langid (after Lui & Baldwin 2012)."""

from collections.abc import Sequence
from typing import Final

from xlst_ray.languages import language

SENTENCES: Final = 20  # identified together: one alone is often too short


def other_language(texts: Sequence[str], lang: str) -> str | None:
    """The code of the language that most of the texts are in, if that is not `lang`.

    None too where the identifier does not know `lang`, or there are fewer texts than it needs.
    """
    import py3langid

    parts = [" ".join(texts[start : start + SENTENCES]) for start in range(0, len(texts) - SENTENCES + 1, SENTENCES)]
    base = language(lang).base
    if not parts or base not in {code for code, _ in py3langid.rank(parts[0])}:
        return None
    found = [str(py3langid.classify(part)[0]) for part in parts]
    most = max(sorted(set(found)), key=found.count)
    return most if most != base and 2 * found.count(most) > len(found) else None
