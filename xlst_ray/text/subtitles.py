"""Subtitles: cues of at most two lines, as SubRip (.srt) and as WebVTT (.vtt)."""

import html
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

LINE: Final = 42  # characters, and
LINES: Final = 2  # lines of a cue, as the style guides of television have them


class Cue(NamedTuple):
    """Text of some lines, shown from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


def cues(start: float, end: float, text: str) -> Iterator[Cue]:
    """A text that is said from `start` to `end` seconds; each cue lasts by its share of the characters."""
    lines = textwrap.wrap(text, LINE, break_on_hyphens=False)
    total, said = sum(map(len, lines)), 0
    for first in range(0, len(lines), LINES):
        part = lines[first : first + LINES]
        began, said = said, said + sum(map(len, part))
        yield Cue(start + (end - start) * began / total, start + (end - start) * said / total, "\n".join(part))


def srt(shown: Sequence[Cue]) -> str:
    """SubRip."""
    return "".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n\n"
        for number, cue in enumerate(shown, 1)
    )


def vtt(shown: Iterable[Cue]) -> str:
    """WebVTT."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{html.escape(cue.text, quote=False)}\n\n"
        for cue in shown
    )
    return "WEBVTT\n\n" + "".join(blocks)


def _clock(seconds: float, point: str) -> str:
    """`01:02:03,456`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
