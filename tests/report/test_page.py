import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from xlst_ray.report.content import Content, CurvePoint, DataTable, Sample
from xlst_ray.report.page import render_report
from xlst_ray.report.results import ArmResult, Results
from xlst_ray.score.bleu import TextScore
from xlst_ray.text.leakage import find_overlap

VOID = {"meta", "br", "img", "link", "hr", "input"}
ATTACK = "<script>alert(1)</script> & \"'"
MT = ArmResult(
    arm="st-mt", engine="lm", seed=1, wer=60.0, wer_interval=(55.0, 65.0), cer=30.0, cer_interval=(25.0, 35.0),
    relative_wer_reduction=0.25, p_vs_direct=0.0004, p_vs_scratch=0.001, test="test", utterances=300, seconds=12.5,
    blocks="38 groups", rule="lower case, no punctuation, NFKC",
)  # fmt: skip
DIRECT = replace(MT, arm="direct", engine=None, wer=80.0, relative_wer_reduction=None, p_vs_direct=None)


class Page(HTMLParser):
    """Checks that tags close in order, and keeps texts by the tag they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]


def full_content() -> Content:
    curve = [CurvePoint(100, 3.0, 3.5, 0.2), CurvePoint(200, 2.0, 2.5, 0.4)]
    return Content(
        curves={"asr-en": curve, "direct": [CurvePoint(10, dev_loss=4.0)]},
        samples=[Sample("fi/1", "yksi kaksi kolme viisi", {"direct": "yksi kolme viisi neljä", "st-mt (lm)": "yksi"})],
        data=[DataTable("Hours", ("split", "hours"), [("train", "0.05")], note="FLAC")],
        leakage=find_overlap({"test": ["yksi kaksi"]}, {"labels-lm": ["Yksi, kaksi!", "kolme"]}, "fi"),
        translation={"lm": TextScore(24.04, 50.0, "nrefs:1|tok:13a", "nrefs:1|nc:6")},
        transfers={"direct": "module  action\nencoder loaded"},
        config={"train": {"lr": 0.001}, "arms": ["direct"]},
        versions={"torch": "2.13.0"},
    )


def render(content: Content, *arms: ArmResult) -> str:
    return render_report(Results("demo", "en", "fi", arms or (DIRECT, MT)), content)


def test_every_section_and_its_figures() -> None:
    page = Page(render(full_content()))
    assert page.of("h2") == [
        "Word error rate by arm", "WER with intervals", "Learning curves", "Hypotheses", "Data",
        "Held-out sentences in training texts", "Speech translation", "Transfer", "Configuration", "Versions",
    ]  # fmt: skip
    assert page.of("h1") == ["demo"]
    assert "25.0\u00a0% fewer errors than direct" in next(text for _, text in page.texts if "fewer" in text)
    cells = page.of("td")
    for cell in ("60.0", "55.0–65.0", "+25.0 %", "< 0.001", "0.05", "labels-lm", "50.00 %", "24.0", "2.13.0"):
        assert cell in cells
    assert "Yksi, kaksi!" in cells
    assert page.of("pre") == ["module  action\nencoder loaded", "train:\n  lr: 0.001\narms:\n- direct\n"]
    assert any("nrefs:1|tok:13a" in note for note in page.of("p"))


def test_sections_without_content_are_left_out() -> None:
    assert Page(render(Content())).of("h2") == ["Word error rate by arm", "WER with intervals"]


def test_errors_are_marked() -> None:
    page = Page(render(full_content()))
    assert page.of("del") == ["kaksi", "kaksi kolme viisi"]
    assert page.of("ins") == ["neljä"]


def test_the_page_stands_alone() -> None:
    text = render(full_content())
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    for _, attributes in page.tags:
        assert not {"src", "onclick", "onload"} & attributes.keys()
        assert all((attributes[key] or "").startswith("#") for key in ("href", "xlink:href") if key in attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_everything_given_is_escaped() -> None:
    content = Content(
        curves={ATTACK: [CurvePoint(1, 1.0)]},
        samples=[Sample(ATTACK, f"{ATTACK} yksi", {ATTACK: f"kaksi {ATTACK}", "direct": "yksi"})],
        data=[DataTable(ATTACK, (ATTACK,), [(ATTACK,)], note=ATTACK)],
        leakage=find_overlap({ATTACK: [ATTACK]}, {ATTACK: [ATTACK]}, "fi"),
        translation={ATTACK: TextScore(1, 1, ATTACK, ATTACK)},
        transfers={ATTACK: ATTACK},
        config={ATTACK: ATTACK},
        versions={ATTACK: ATTACK},
    )
    hostile = replace(MT, engine=ATTACK, test=ATTACK, blocks=ATTACK, rule=ATTACK)
    text = render_report(Results(ATTACK, "en", "fi", (hostile,)), content)
    assert "<script" not in text
    assert all(tag != "script" for tag, _ in Page(text).tags)
    assert ATTACK in Page(text).of("h1")


def test_plots_follow_the_colour_of_the_text_and_share_no_ids() -> None:
    text = render(full_content(), DIRECT, MT, replace(DIRECT, test="noisy"), replace(MT, test="noisy"))
    page = Page(text)
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    assert "currentColor" in text
    assert "#010203" not in text
    assert "#000000" not in text
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= ids.keys()


def test_bars_tell_mean_and_arm() -> None:
    page = Page(render(Content(), DIRECT, replace(DIRECT, seed=2, wer=84.0), MT))
    labels = page.of("text")
    assert {"direct", "82.0 %", "st-mt (lm)", "60.0 %"} <= set(labels)


def test_curves_name_each_run() -> None:
    labels = Page(render(full_content())).of("text")
    assert {"asr-en", "direct", "updates", "loss per token", "dev accuracy"} <= set(labels)
    losses = Content(curves={"lm": [CurvePoint(1, 1.0), CurvePoint(2, 0.5)]})
    assert "dev accuracy" not in Page(render(losses)).of("text")


def test_same_content_same_page() -> None:
    assert render(full_content()) == render(full_content())


@pytest.mark.parametrize(("lang", "marked"), [("zh-CN", "们"), ("ar", "ثلاثة")])
def test_other_scripts(lang: str, marked: str) -> None:
    samples = {
        "zh-CN": Sample("1", "你好世界", {"direct": "你们好世界"}),
        "ar": Sample("1", "واحد اثنان", {"direct": "واحد ثلاثة"}),
    }
    page = Page(render_report(Results("x", "en", lang, (DIRECT,)), Content(samples=[samples[lang]])))
    assert page.of("ins") == [marked]
    assert [attributes.get("dir") for tag, attributes in page.tags if tag == "dd"] == ["auto", "auto"]
