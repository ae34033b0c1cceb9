"""What encoder-decoder models call our languages: one table for NLLB-200, M2M-100, MADLAD-400 and OPUS-MT.

NLLB-200 takes FLORES-200 codes, an ISO 639-3 code of an individual language and an ISO 15924 script (`fin_Latn`);
M2M-100 and MADLAD-400 mostly ISO 639-1; multilingual OPUS-MT models ISO 639-3. Which of the candidates a model really
has is looked up in its vocabulary. Sources: NLLB Team 2022 (arXiv:2207.04672), table 1; Kudugunta et al. 2023
(arXiv:2309.04662), appendix; ISO 639-3's macrolanguage mappings.
"""

from collections import Counter
from collections.abc import Container
from typing import Final

from xlst_ray.languages import UNKNOWN_SCRIPT, Language, known, language

# ISO 639-1 -> 639-3. Where FLORES-200 has one language of a macrolanguage, that one stands first.
_ISO_639_3_TABLE: Final = """
    ab=abk af=afr am=amh ar=arb,ara as=asm az=azj,aze ba=bak be=bel bg=bul bn=ben br=bre bs=bos ca=cat cs=ces
    cv=chv cy=cym da=dan de=deu dv=div el=ell en=eng eo=epo es=spa et=est,ekk eu=eus fa=pes,fas fi=fin fo=fao
    fr=fra fy=fry ga=gle gd=gla gl=glg gn=grn,gug gu=guj ha=hau he=heb hi=hin hr=hrv hu=hun hy=hye ia=ina id=ind
    ig=ibo is=isl it=ita ja=jpn jv=jav ka=kat kk=kaz km=khm kn=kan ko=kor ku=kmr,kur ky=kir la=lat lb=ltz lg=lug
    lo=lao lt=lit lv=lvs,lav mi=mri mk=mkd ml=mal mn=khk,mon mr=mar ms=zsm,msa mt=mlt my=mya nb=nob ne=npi,nep
    nl=nld nn=nno no=nob,nor oc=oci or=ory,ori os=oss pa=pan pl=pol ps=pbt,pus pt=por rm=roh ro=ron ru=rus rw=kin
    sd=snd si=sin sk=slk sl=slv so=som sq=als,sqi sr=srp sv=swe sw=swh,swa ta=tam te=tel tg=tgk th=tha ti=tir
    tk=tuk tl=tgl,fil tr=tur tt=tat ug=uig uk=ukr ur=urd uz=uzn,uzb vi=vie xh=xho yo=yor zh=zho,cmn zu=zul
"""
_ISO_639_3: Final = dict(entry.split("=") for entry in _ISO_639_3_TABLE.split())
_ALSO: Final = {"he": ["iw"], "id": ["in"], "jv": ["jw"], "nb": ["no"], "kmr": ["ku"], "mhr": ["chm"], "tl": ["fil"]}


def candidates(code: str) -> list[str]:
    """What models may call a language, the most specific first.

    >>> candidates("fi")
    ['fin_Latn', 'fi', 'fin']
    >>> candidates("zh-TW")
    ['zho_Hant', 'cmn_Hant', 'zh-TW', 'zh', 'zho', 'cmn']

    A language that our table lacks may be in any script, but for one that its code tells:

    >>> "ceb_Latn" in candidates("ceb"), candidates("kas-Deva")
    (True, ['kas_Deva', 'kas-Deva', 'kas'])
    """
    found = language(code)
    three = _ISO_639_3.get(found.base, found.base).split(",")
    flores = [f"{name}_{script}" for name in three for script in _scripts(found)]
    return list(dict.fromkeys([*flores, code, found.base, *three, *_ALSO.get(found.base, [])]))


def _scripts(found: Language) -> list[str]:
    """That of a language, or where it is not known all there are, the most common first."""
    if found.script != UNKNOWN_SCRIPT:
        return [found.script]
    return [script for script, _ in Counter(other.script for other in known()).most_common()]


def shortest(code: str) -> str | None:
    """The code by which our table has a language of another code, or none.

    >>> shortest("fin"), shortest("ceb")
    ('fi', None)
    """
    base = code.partition("-")[0]
    return next((two for two, three in _ISO_639_3.items() if base in three.split(",")), None)


def find_code(code: str, known: Container[str], form: str = "{}") -> str | None:
    """The first candidate that a model has as `form`, in that form; none: it lacks the language.

    >>> find_code("nb", {"<2no>", "<2sv>"}, "<2{}>")
    '<2no>'
    """
    return next((form.format(name) for name in candidates(code) if form.format(name) in known), None)
