import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from xlst_ray.report.results import ArmResult, Results, caption, headline, relative_reduction, rows, table

SCRATCH = ArmResult(
    arm="scratch", engine=None, seed=1, wer=105.04, wer_interval=(100.0, 110.06), cer=85.0, cer_interval=(80.0, 90.0),
    relative_wer_reduction=-0.3125, p_vs_direct=0.002, p_vs_scratch=None, test="test", utterances=300, seconds=12.5,
    blocks="38 groups", rule="lower case, no punctuation, NFKC", ctc_wer=99.0,
)  # fmt: skip
DIRECT = replace(SCRATCH, arm="direct", wer=80.0, relative_wer_reduction=None, p_vs_direct=None, p_vs_scratch=0.001)
MT = replace(SCRATCH, arm="st-mt", engine="lm", wer=60.0, relative_wer_reduction=0.25, p_vs_direct=0.0004, ctc_wer=None)


def results(*arms: ArmResult, **changes: Any) -> Results:
    return Results("demo", "en", "fi", arms, **changes)


def printed(shown: Results, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(table(shown))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_json_has_the_promised_keys() -> None:
    value = json.loads(json.dumps(results(SCRATCH, MT).to_json()))
    promised = {
        "arm", "engine", "seed", "wer", "wer_interval", "cer", "cer_interval", "relative_wer_reduction",
        "p_vs_direct", "p_vs_scratch", "test", "utterances", "seconds",
    }  # fmt: skip
    assert all(promised <= arm.keys() for arm in value["arms"])
    assert value["arms"][0]["wer_interval"] == [100.0, 110.06]
    assert value["arms"][0]["engine"] is None
    assert value["arms"][1]["engine"] == "lm"
    assert (value["name"], value["source"], value["target"]) == ("demo", "en", "fi")


def test_relative_reduction_is_positive_where_better() -> None:
    assert relative_reduction(60, 80) == 0.25
    assert relative_reduction(100, 80) == -0.25
    assert relative_reduction(10, 0) is None


def test_rows() -> None:
    assert list(rows(results(SCRATCH, DIRECT, MT), "test")) == [
        ("scratch", "1", "105.0", "100.0–110.1", "85.0", "99.0", "−31.2 %", "0.002", ""),
        ("direct", "1", "80.0", "100.0–110.1", "85.0", "99.0", "", "", "0.001"),
        ("st-mt (lm)", "1", "60.0", "100.0–110.1", "85.0", "", "+25.0 %", "< 0.001", ""),
    ]


def test_seeds_have_a_mean_row_with_the_sample_deviation() -> None:
    shown = results(MT, DIRECT, replace(MT, seed=2, wer=64.0, relative_wer_reduction=0.2), replace(MT, engine="llm"))
    found = [row[:4] for row in rows(shown, "test")]
    assert [row[:2] for row in found] == [
        ("st-mt (lm)", "1"), ("st-mt (lm)", "2"), ("st-mt (lm)", "mean"), ("direct", "1"), ("st-mt (llm)", "1"),
    ]  # fmt: skip
    assert found[2] == ("st-mt (lm)", "mean", "62.0", "± 2.8")
    assert list(rows(shown, "test"))[2][6] == "+22.5 %"


def test_the_table_is_whole_in_80_columns() -> None:
    text = printed(results(SCRATCH, replace(DIRECT, arm="direct-matched"), replace(MT, engine="trained-lm")))
    for part in ("direct-matched", "st-mt (trained-lm)", "100.0–110.1", "−31.2 %", "< 0.001", "95\u00a0%", "interval"):
        assert part in text
    assert "…" not in text
    assert "lower case, no punctuation, NFKC" in " ".join(text.split())


def test_several_test_sets_are_told_apart() -> None:
    shown = results(DIRECT, MT, replace(MT, test="noisy", wer=77.7))
    assert "noisy" in printed(shown)
    assert [row[2] for row in rows(shown, "noisy")] == ["77.7"]
    assert "On noisy, st-mt (lm) reaches 77.7 % WER." in headline(shown)


def test_caption_says_how_it_was_counted() -> None:
    text = caption(results(DIRECT, MT))
    assert "300 utterances; lower case, no punctuation, NFKC" in text
    assert "38 groups" in text
    assert "on characters" not in text
    assert "on characters" in caption(Results("demo", "en", "zh-CN", (DIRECT,)))


def test_confidence_is_named() -> None:
    assert "90\u00a0%" in printed(results(MT, confidence=0.9))


MATCHED = replace(DIRECT, arm="direct-matched", wer=75.0)
WORSE = replace(MT, wer=84.0, p_vs_direct=0.3)


@pytest.mark.parametrize(
    ("arms", "sentence"),
    [
        ((SCRATCH, DIRECT, MT), "st-mt (lm) reaches 60.0 % WER, 25.0 % fewer errors than direct (80.0 %); p < 0.001."),
        ((DIRECT, WORSE), "84.0 % WER, 5.0 % more errors than direct (80.0 %); p = 0.300."),
        ((DIRECT, MATCHED, MT), "20.0 % fewer errors than direct-matched (75.0 %)."),
        ((DIRECT, replace(MATCHED, wer=90.0), MT), "25.0 % fewer errors than direct (80.0 %); p"),
        ((SCRATCH, DIRECT), "direct reaches 80.0 % WER."),
        ((SCRATCH, MT), "st-mt (lm) reaches 60.0 % WER."),
    ],
)  # fmt: skip
def test_headline(arms: tuple[ArmResult, ...], sentence: str) -> None:
    assert sentence in headline(results(*arms))


def test_headline_over_seeds_tells_the_largest_p() -> None:
    text = headline(results(DIRECT, MT, replace(DIRECT, seed=2), replace(MT, seed=2, wer=62.0, p_vs_direct=0.04)))
    assert text.endswith("23.8 % fewer errors than direct (80.0 %), mean of 2 seeds; largest p = 0.040.")
