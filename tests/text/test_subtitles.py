import html
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.text.subtitles import LINE, LINES, Cue, cues, srt, vtt

words = st.text(alphabet="abcdeéლ-&<", min_size=1, max_size=12)
texts = st.lists(words, max_size=60).map(" ".join)


@given(texts, st.floats(0, 9000), st.floats(0.1, 30))
def test_cues_hold_all_words_in_order_follow_on_one_another_and_fit_their_lines(
    text: str, start: float, length: float
) -> None:
    shown = list(cues(start, start + length, text))
    assert " ".join(cue.text.replace("\n", " ") for cue in shown) == text
    for cue in shown:
        assert max(map(len, cue.text.split("\n"))) <= LINE
        assert len(cue.text.split("\n")) <= LINES
    for one, other in pairwise(shown):
        assert one.start < one.end == other.start
    if shown:
        assert shown[0].start == start
        assert abs(shown[-1].end - start - length) < 1e-6


def test_a_cue_lasts_by_its_share_of_the_characters() -> None:
    first, second = cues(10, 20, "a" * 42 + " " + "b" * 42 + " " + "c" * 21)
    assert (first, second) == (Cue(10, 18, "a" * 42 + "\n" + "b" * 42), Cue(18, 20, "c" * 21))


def test_subrip_and_webvtt() -> None:
    shown = [Cue(0.0, 1.25, "één & <twee>"), Cue(3661.9996, 3725.5, "drie\nvier")]
    assert srt(shown) == (
        "1\n00:00:00,000 --> 00:00:01,250\néén & <twee>\n\n2\n01:01:02,000 --> 01:02:05,500\ndrie\nvier\n\n"
    )
    assert vtt(shown) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\néén &amp; &lt;twee&gt;\n\n"
        "01:01:02.000 --> 01:02:05.500\ndrie\nvier\n\n"
    )
    assert (srt([]), vtt([])) == ("", "WEBVTT\n\n")


@given(st.lists(texts.filter(bool), max_size=4))
def test_what_is_written_reads_back(said: list[str]) -> None:
    shown = [cue for number, text in enumerate(said) for cue in cues(10 * number, 10 * number + 10, text)]
    pattern = re.compile(r"^(\d\d):(\d\d):(\d\d)[.,](\d{3}) --> .*\n((?:.+\n)+)\n", re.MULTILINE)
    for written in (srt(shown), html.unescape(vtt(shown))):
        found = [(match[5].rstrip("\n"), int(match[2]) * 60 + int(match[3])) for match in pattern.finditer(written)]
        assert [text for text, _ in found] == [cue.text for cue in shown]
        assert all(abs(second - cue.start) <= 1 for (_, second), cue in zip(found, shown, strict=True))
