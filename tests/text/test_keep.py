import numpy as np
import pytest

from xlst_ray.text.filters import FILTERS
from xlst_ray.text.keep import FILTERED, NAMES, KeepOptions, refusals
from xlst_ray.text.language_id import language_probability

GOOD = {
    "length_ratio": 1.1, "script": 1.0, "language": 0.9, "repetition": 0.0, "longest_word": 9.0, "copied": 0.0,
    "untranslated": 0.0, "numbers": 1.0, "stock": 1.0, "quality": 0.9,
}  # fmt: skip
BAD = {
    "length_ratio": 9.0, "script": 0.1, "language": 0.001, "repetition": 0.9, "longest_word": 90.0, "copied": 1.0,
    "untranslated": 1.0, "numbers": 0.0, "stock": 999.0, "quality": 0.1,
}  # fmt: skip


def refused(*rows: dict[str, float], median: float = 1.0, **thresholds: float | None) -> list[str | None]:
    scores = {name: np.array([row[name] for row in rows]) for name in NAMES}
    return list(refusals(scores, KeepOptions(**{"quality": 0.5, **thresholds}), median))


def test_every_filter_the_two_of_the_set_and_the_estimate_have_a_threshold() -> None:
    assert set(FILTERED) == {*FILTERS, "language", "stock"}
    assert {*FILTERED, "quality"} == set(NAMES) == GOOD.keys() == BAD.keys()


def test_an_estimate_refuses_nothing_by_default_and_leaves_old_results_what_they_are() -> None:
    assert KeepOptions().quality is None
    assert "quality" not in KeepOptions().identity()
    assert KeepOptions(quality=0.5).identity()["quality"] == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_refused_by_its_bad_score_unless_that_has_no_threshold(name: str) -> None:
    rows = [GOOD, {**GOOD, name: BAD[name]}, {**GOOD, name: float("nan")}]
    assert refused(*rows) == [None, name, None]
    assert refused(*rows, **{name: None}) == [None, None, None]


def test_the_first_reason_counts() -> None:
    assert refused(BAD, {**BAD, "length_ratio": 1.0}) == ["length_ratio", "script"]


def test_the_length_ratio_is_measured_from_the_median_of_the_set() -> None:
    chinese, far = {**GOOD, "length_ratio": 0.2}, {**GOOD, "length_ratio": 1.0}
    assert refused(chinese, far, median=0.2) == [None, "length_ratio"]
    assert refused(chinese, far, median=1.0) == ["length_ratio", None]


def test_the_language_of_a_sentence_is_told_where_it_is_long_enough() -> None:
    finnish, german = "minä en tiedä mitä hän sanoi", "ich weiss nicht, was er gesagt hat"
    assert (language_probability(finnish, "fi") or 0) > 0.9
    assert (language_probability(german, "fi") or 0) < 0.02
    assert language_probability("joo joo", "fi") is None
    assert language_probability(finnish, "tlh") is None
