"""From what a language model wrote to a translation, or to the reason why there is none.

Models that were asked for a translation alone still put it in quotation marks, say what follows, or add notes. Such
wrapping is taken off. What is left must be one piece of text: a refusal or a choice of several is an error, because a
wrong label costs more than a missing one. Patterns of refusal are English, the language that prompts are written in,
and narrow enough to leave translations such as `I cannot come` alone.
"""

import re
from typing import Final

from xlst_ray.mt.protocol import Translation, tidy

_THOUGHT: Final = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT: Final = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_FENCE: Final = re.compile(r"```\w*")
_LEAD_IN: Final = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok)\b[^:]{0,60}|here(?:'s| is| are|’s)\b[^:]{0,80}"
    r"|(?:the )?(?:\w+ )?translation\b[^:]{0,60}|translated(?: text| sentence)?\b[^:]{0,40}|output|answer)[:：]",
    re.IGNORECASE,
)
_NOTE: Final = re.compile(
    r"\W*(?:note|notes|explanation|comment|pronunciation|transliteration|romanization|literally|literal translation"
    r"|back[- ]?translation|alternatively|this translation|in this translation|let me know|please let me know)\b",
    re.IGNORECASE,
)
_INLINE_NOTE: Final = re.compile(
    r"\s*[(\[](?:note|literally|lit\.|translator'?s note)\b[^()\[\]]*[)\]]\s*$", re.IGNORECASE
)
_REFUSAL: Final = re.compile(
    r"as an ai\b|as a (?:large )?language model\b"
    r"|(?:i'?m|i am|we are) (?:really |very )?(?:sorry|afraid)\b.*\b(?:translat|assist|help|provide|fulfil|request)"
    r"|(?:sorry|i apologi[sz]e)\b.*\bi (?:can'?t|cannot|am unable|am not able|don'?t)\b"
    r"|i (?:can'?t|cannot|can not|won'?t|will not|am unable to|'?m unable to|am not able to|'?m not able to)"
    r" (?:translat|assist|fulfil|comply|provide (?:a|the|this|that|any)? ?translation|help (?:you )?with)",
    re.IGNORECASE,
)
_WRAPPED: Final = re.compile(  # in one pair of marks, with none of them inside
    r"""\*{1,2}([^*]+)\*{1,2}|`([^`]+)`|"([^"]+)"|'([^']+)'|“([^“”]+)”|„([^„“”]+)[“”]|«([^«»]+)»|»([^«»]+)«|‘([^‘’]+)’"""
    """|「([^「」]+)」"""
)


def read_answer(sentence: str, answer: str, *, source: str, target: str, finished: bool = True) -> Translation:
    """The translation in an answer; in an error's row, why there is none.

    Args:
        sentence: what was to be translated.
        source, target: English names of the languages: models repeat them as labels.
        finished: the model stopped by itself; else it ran into the limit of tokens.
    """
    answer = _THOUGHT.sub("", answer)
    if not finished or _OPEN_THOUGHT.search(answer):
        return Translation(None, "error", "too long")
    lines = [tidy(line) for line in _FENCE.sub("", answer.replace("\u2028", "\n")).splitlines()]
    lines = [line for line in lines if line]
    if lines and _REFUSAL.match(lines[0].replace("’", "'")) and not _REFUSAL.match(sentence.replace("’", "'")):
        return Translation(None, "error", f"refused: {lines[0][:80]}")
    kept = _without_notes(_without_lead_in(lines, sentence, source, target))
    if len(kept) > 1:
        return Translation(None, "error", f"chatty: {len(kept)} lines")
    text = tidy(_unwrap(_INLINE_NOTE.sub("", kept[0]), sentence)) if kept else ""
    return Translation(text, "ok") if text else Translation(None, "error", "empty")


def _without_lead_in(lines: list[str], sentence: str, source: str, target: str) -> list[str]:
    """Lines without the sentence repeated under its label, `Here is the translation:` and `Finnish:`."""
    label = re.compile(rf"\W*{re.escape(target)}(?: translation)?[*_ ]*[:：][*_]*", re.IGNORECASE)
    repeated = re.compile(rf"\W*{re.escape(source)}[*_ ]*[:：]", re.IGNORECASE)
    found = []
    for line in lines:
        if repeated.match(line) and not repeated.match(sentence):
            continue
        for pattern in (_LEAD_IN, label):
            match = pattern.match(line)
            if match is not None and pattern.match(sentence) is None:
                line = line[match.end() :].strip()
        if line.strip("*_ "):
            found.append(line)
    return found


def _without_notes(lines: list[str]) -> list[str]:
    """The lines before the first that begins as a note; the first line itself always stays."""
    for number, line in enumerate(lines[1:], 1):
        if _NOTE.match(line) or (line.startswith("(") and line.endswith(")")):
            return lines[:number]
    return lines


def _unwrap(text: str, sentence: str) -> str:
    """Without marks around the whole, such as quotation marks, unless the sentence has some of its own."""
    while (match := _WRAPPED.fullmatch(text)) is not None and _WRAPPED.fullmatch(sentence) is None:
        text = next(inner for inner in match.groups() if inner is not None).strip()
    return text
