import pytest

from xlst_ray.errors import ConfigError
from xlst_ray.languages import known, language

ASKED = """
    cs nl en fi tr de fr es ca it pl ru uk bg el sr ka hy et lv lt sl sv da nb is cy ga mt eu hi ta bn te ur fa ar he
    am sw ha yo mn kk ky uz tt zh ja ko th vi id tl my km lo
"""


def test_table_knows_the_languages_we_name() -> None:
    assert {lang.code for lang in known()} >= set(ASKED.split())
    assert all(len(lang.script) == 4 and lang.name[0].isupper() for lang in known())


@pytest.mark.parametrize(
    ("code", "name", "script", "casing", "spaces"),
    [
        ("sv-SE", "Swedish", "Latn", True, True),
        ("el", "Greek", "Grek", True, True),
        ("ka", "Georgian", "Geor", False, True),
        ("zh-CN", "Chinese", "Hans", False, False),
        ("zh-TW", "Chinese (Taiwan)", "Hant", False, False),
        ("zh-Hant", "Chinese", "Hant", False, False),
        ("sr-Latn-RS", "Serbian", "Latn", True, True),
        ("ceb-Latn", "ceb-Latn", "Latn", True, True),
        ("th", "Thai", "Thai", False, False),
        ("ko", "Korean", "Kore", False, True),
        ("nb", "Norwegian Bokmål", "Latn", True, True),
        ("qya", "qya", "Zyyy", True, True),
    ],
)
def test_look_up(code: str, name: str, script: str, casing: bool, spaces: bool) -> None:
    found = language(code)
    assert (found.code, found.name, found.script, found.casing, found.spaces) == (code, name, script, casing, spaces)


def test_only_these_languages_write_without_spaces() -> None:
    without = {lang.base for lang in known() if not lang.spaces}
    assert without == {"zh", "ja", "th", "lo", "my", "km", "yue", "nan"}


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("english", r"did you mean en \(English\)"),
        ("CS", r"did you mean cs"),
        ("sv_SE", r"did you mean sv"),
        ("Ducth", r"did you mean nl"),
        ("", "ISO 639"),
        ("12345", "ISO 639"),
    ],
)
def test_no_language_code(code: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        language(code)
