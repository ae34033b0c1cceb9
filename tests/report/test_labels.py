from xlst_ray.report.labels import LabelPage, render_labels
from xlst_ray.score.bleu import TextScore


def page(**changes: object) -> str:
    given = {
        "source": "en",
        "target": "ka",
        "engine": {"engine": "http", "model": "<b>m</b>"},
        "reasons": {"timeout": 3},
        "rows": {"kept": 90, "script": 7, "no label": 3},
        "edges": {"script": [0.0, 0.5, 1.0], "longest_word": [0.0, 30.0, 60.0]},
        "bins": {"script": [7, 90], "longest_word": [97, 0]},
        "thresholds": {"script": 0.8, "longest_word": None},
        "samples": {"script": [("a/1", "good <i>day</i>", "დღე good")], "kept": [("a/2", "yes", "დიახ")]},
        "score": TextScore(12.34, 45.67, "BLEU|x", "chrF|y"),
        "scored_pairs": 8,
        "translation": {"sentences": 97},
    }
    return render_labels(LabelPage(**{**given, **changes}))  # type: ignore[arg-type]


def test_the_page_tells_rows_reasons_scores_and_samples() -> None:
    html = page()
    assert "English → Georgian" in html
    assert "90 of 100 rows (90.0&nbsp;%) have a label that the thresholds keep." in html
    for cell in ("kept", "script", "no label", "timeout", "7.00 %", "12.3", "45.7", "BLEU|x"):
        assert cell in html
    assert html.index("Kept</h2>") < html.index("Refused: script</h2>")
    assert "დიახ" in html
    assert html.count("<svg") == 1


def test_everything_is_escaped_and_nothing_is_fetched() -> None:
    html = page()
    assert "good &lt;i&gt;day&lt;/i&gt;" in html
    assert "&lt;b&gt;m&lt;/b&gt;" in html
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_sections_without_content_are_left_out() -> None:
    html = page(score=None, reasons={}, samples={})
    assert "Against human translations" not in html
    assert "Why without a label" not in html
