"""Languages: code, English name, script, and what follows from the script (casing, spaces between words)."""

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from xlst_ray.errors import ConfigError

UNKNOWN_SCRIPT: Final = "Zyyy"  # ISO 15924: undetermined

_CASED_SCRIPTS: Final = frozenset({"Latn", "Cyrl", "Grek", "Armn", UNKNOWN_SCRIPT})
_SCRIPTS_WITHOUT_SPACES: Final = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Mymr", "Khmr"})
_SCRIPT: Final = re.compile(r"[A-Z][a-z]{3}")
_CODE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Language:
    """A language as the pipeline needs to know it.

    Attributes:
        code: as it was asked for: ISO 639-1 or -3, with Common Voice's regions (`sv-SE`, `zh-CN`).
        name: in English.
        script: ISO 15924; `Zyyy` where the table does not know the language.
    """

    code: str
    name: str
    script: str

    @property
    def base(self) -> str:
        """The code without region or script: `sv` of `sv-SE`."""
        return self.code.partition("-")[0]

    @property
    def casing(self) -> bool:
        """Whether its script tells upper case from lower case."""
        return self.script in _CASED_SCRIPTS

    @property
    def spaces(self) -> bool:
        """Whether spaces stand between words. Where not, errors are counted on characters."""
        return self.script not in _SCRIPTS_WITHOUT_SPACES


def is_code(text: str) -> bool:
    """Whether a text has the form of a language code, known or not."""
    return _CODE.fullmatch(text) is not None


@cache
def language(code: str) -> Language:
    """The language of a code. A region falls back on the language: `de-AT` is German; a script stands: `sr-Latn`.

    A well-formed code that is not in the table still works, as a language of unknown script, with casing and spaces.

    Raises:
        ConfigError: no language code at all (`english`, `EN`), with the codes that may have been meant.
    """
    if not is_code(code):
        raise ConfigError(f"{code!r} is not a language code", hint=_nearest(code))
    base, *further = code.split("-")
    name, script = _TABLE.get(code) or _TABLE.get(base) or (code, UNKNOWN_SCRIPT)
    told = (part for part in further if _SCRIPT.fullmatch(part))
    return Language(code, name, next(told, script))


def known() -> tuple[Language, ...]:
    """Every language of the table, by code."""
    return tuple(language(code) for code in sorted(_TABLE))


def _nearest(code: str) -> str:
    word = code.strip().casefold().replace("_", "-")
    by_name = {name.casefold(): key for key, (name, _) in _TABLE.items()}
    names = difflib.get_close_matches(word, by_name, n=2, cutoff=0.75)
    codes = [key for key in _TABLE if key.casefold() == word or key == word.partition("-")[0]]
    near = list(dict.fromkeys([*codes, *(by_name[name] for name in names)]))
    if near:
        return f"did you mean {' or '.join(f'{key} ({_TABLE[key][0]})' for key in near)}?"
    return "write an ISO 639 code in lower case, with a region where the corpus has one: cs, sv-SE, zh-CN"


def _parse(table: str) -> dict[str, tuple[str, str]]:
    rows = (line.split(maxsplit=2) for line in table.strip().splitlines())
    return {code: (name, script) for code, script, name in rows}


_TABLE: Final = _parse(
    """
    ab    Cyrl Abkhaz
    af    Latn Afrikaans
    am    Ethi Amharic
    ar    Arab Arabic
    as    Beng Assamese
    ast   Latn Asturian
    az    Latn Azerbaijani
    ba    Cyrl Bashkir
    be    Cyrl Belarusian
    bg    Cyrl Bulgarian
    bn    Beng Bengali
    br    Latn Breton
    bs    Latn Bosnian
    ca    Latn Catalan
    ckb   Arab Central Kurdish
    crh   Latn Crimean Tatar
    cs    Latn Czech
    cv    Cyrl Chuvash
    cy    Latn Welsh
    da    Latn Danish
    de    Latn German
    dv    Thaa Dhivehi
    el    Grek Greek
    en    Latn English
    eo    Latn Esperanto
    es    Latn Spanish
    et    Latn Estonian
    eu    Latn Basque
    fa    Arab Persian
    fi    Latn Finnish
    fo    Latn Faroese
    fr    Latn French
    fy    Latn West Frisian
    ga    Latn Irish
    gd    Latn Scottish Gaelic
    gl    Latn Galician
    gn    Latn Guarani
    gu    Gujr Gujarati
    ha    Latn Hausa
    he    Hebr Hebrew
    hi    Deva Hindi
    hr    Latn Croatian
    hsb   Latn Upper Sorbian
    hu    Latn Hungarian
    hy    Armn Armenian
    ia    Latn Interlingua
    id    Latn Indonesian
    ig    Latn Igbo
    is    Latn Icelandic
    it    Latn Italian
    ja    Jpan Japanese
    jv    Latn Javanese
    ka    Geor Georgian
    kab   Latn Kabyle
    kk    Cyrl Kazakh
    km    Khmr Khmer
    kmr   Latn Northern Kurdish
    kn    Knda Kannada
    ko    Kore Korean
    ky    Cyrl Kyrgyz
    la    Latn Latin
    lb    Latn Luxembourgish
    lg    Latn Luganda
    lo    Laoo Lao
    lt    Latn Lithuanian
    lv    Latn Latvian
    mhr   Cyrl Meadow Mari
    mi    Latn Maori
    mk    Cyrl Macedonian
    ml    Mlym Malayalam
    mn    Cyrl Mongolian
    mr    Deva Marathi
    ms    Latn Malay
    mt    Latn Maltese
    my    Mymr Burmese
    nan   Hant Southern Min
    nb    Latn Norwegian Bokmål
    ne    Deva Nepali
    nl    Latn Dutch
    nn    Latn Norwegian Nynorsk
    no    Latn Norwegian
    oc    Latn Occitan
    or    Orya Odia
    os    Cyrl Ossetian
    pa    Guru Punjabi
    pl    Latn Polish
    ps    Arab Pashto
    pt    Latn Portuguese
    rm    Latn Romansh
    ro    Latn Romanian
    ru    Cyrl Russian
    rw    Latn Kinyarwanda
    sah   Cyrl Sakha
    sd    Arab Sindhi
    si    Sinh Sinhala
    sk    Latn Slovak
    sl    Latn Slovenian
    so    Latn Somali
    sq    Latn Albanian
    sr    Cyrl Serbian
    sv    Latn Swedish
    sw    Latn Swahili
    ta    Taml Tamil
    te    Telu Telugu
    tg    Cyrl Tajik
    th    Thai Thai
    ti    Ethi Tigrinya
    tk    Latn Turkmen
    tl    Latn Tagalog
    tr    Latn Turkish
    tt    Cyrl Tatar
    ug    Arab Uyghur
    uk    Cyrl Ukrainian
    ur    Arab Urdu
    uz    Latn Uzbek
    vi    Latn Vietnamese
    xh    Latn Xhosa
    yo    Latn Yoruba
    yue   Hant Cantonese
    zh    Hans Chinese
    zh-HK Hant Chinese (Hong Kong)
    zh-TW Hant Chinese (Taiwan)
    zu    Latn Zulu
    """
)
