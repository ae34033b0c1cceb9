import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.text.filters import EXAMPLES, FILTERS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize(("name", "source_lang", "target_lang", "source", "translation", "score"), EXAMPLES)
def test_the_examples(
    name: str, source_lang: str, target_lang: str, source: str, translation: str, score: float | None
) -> None:
    assert FILTERS[name](source, translation, source_lang, target_lang) == (
        None if score is None else pytest.approx(score)
    )


def test_every_filter_has_an_example_of_good_and_of_bad() -> None:
    for name in FILTERS:
        assert len({example[-1] for example in EXAMPLES if example[0] == name}) > 1


@given(TEXT, TEXT, st.sampled_from(["en", "de", "ka", "th", "zh-CN", "he", "tlh"]))
def test_any_text_has_scores_within_their_range(source: str, translation: str, lang: str) -> None:
    for name, function in FILTERS.items():
        score = function(source, translation, "en", lang)
        if score is not None:
            assert score >= 0
            assert name in ("length_ratio", "longest_word") or score <= 1
