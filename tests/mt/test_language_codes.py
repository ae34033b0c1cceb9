import pytest

from xlst_ray.errors import ConfigError
from xlst_ray.languages import known
from xlst_ray.mt.language_codes import candidates, find_code
from xlst_ray.mt.specification import nearest

# Some of FLORES-200's codes, by its own page: those that are no plain ISO 639-3 of the language's own code.
FLORES = {
    "ar": "arb_Arab", "az": "azj_Latn", "fa": "pes_Arab", "lv": "lvs_Latn", "ms": "zsm_Latn", "ne": "npi_Deva",
    "no": "nob_Latn", "nb": "nob_Latn", "nn": "nno_Latn", "or": "ory_Orya", "ps": "pbt_Arab", "sq": "als_Latn",
    "sw": "swh_Latn", "uz": "uzn_Latn", "mn": "khk_Cyrl", "zh": "zho_Hans", "zh-TW": "zho_Hant", "zh-CN": "zho_Hans",
    "yue": "yue_Hant", "ka": "kat_Geor", "ckb": "ckb_Arab", "kmr": "kmr_Latn", "fi": "fin_Latn", "et": "est_Latn",
    "sr": "srp_Cyrl", "pa-IN": "pan_Guru", "sv-SE": "swe_Latn", "gn": "grn_Latn", "tl": "tgl_Latn", "ast": "ast_Latn",
}  # fmt: skip


@pytest.mark.parametrize(("code", "flores"), FLORES.items())
def test_flores_codes(code: str, flores: str) -> None:
    assert find_code(code, set(FLORES.values())) == flores


@pytest.mark.parametrize(("code", "found"), [("ceb", "ceb_Latn"), ("kas-Deva", "kas_Deva"), ("fin", "fin_Latn")])
def test_a_model_may_have_languages_that_our_table_lacks(code: str, found: str) -> None:
    assert find_code(code, {"ceb_Latn", "kas_Arab", "kas_Deva", "fin_Latn"}) == found
    assert find_code("sr-Latn", {"srp_Cyrl"}) is None  # in another script it is another label


def test_every_language_has_candidates_of_all_kinds() -> None:
    for found in known():
        names = candidates(found.code)
        assert found.code in names
        assert any(name.endswith(f"_{found.script}") and len(name) == 8 for name in names), found
        assert any(len(name) == 3 for name in names)


def test_codes_are_looked_up_in_the_form_that_a_model_has() -> None:
    assert find_code("he", {"<2iw>", "<2en>"}, "<2{}>") == "<2iw>"
    assert find_code("lv", {">>lav<<", ">>lit<<"}, ">>{}<<") == ">>lav<<"
    assert find_code("fi", {"<2sv>"}, "<2{}>") is None


def test_languages_near_to_one_that_lacks() -> None:
    codes = [f"{name}_Latn" for name in ("fin", "est", "nob", "swe", "dan", "isl", "fao", "deu", "nld", "afr", "als")]
    assert nearest("fo", ["fi", "sv"]) == "it speaks fi, sv"
    assert "fao_Latn" in nearest("fo", [*codes, "lvs_Latn", "lit_Latn"])


def test_no_code_is_no_language() -> None:
    with pytest.raises(ConfigError, match="did you mean fi"):
        candidates("Finnish")
