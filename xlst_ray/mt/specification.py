"""What is asked of a language model, and what is made of its answer: the pure part that all engines of LLMs share.

An engine sends `prompt(sentence)` with `max_tokens(sentence)` and `sampling`, and gives the answer to `read`. Nothing
here knows how. `fingerprint` covers all of it, so that labels made with another prompt are other labels.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xlst_ray.config import Section, option
from xlst_ray.errors import ConfigError
from xlst_ray.languages import Language, is_code, language
from xlst_ray.languages import known as all_languages
from xlst_ray.mt.answers import read_answer
from xlst_ray.mt.language_codes import shortest
from xlst_ray.mt.pairs import Pair
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.mt.templates import PromptTemplate, fill, language_values

Message = dict[str, str]  # role, content

_WORD: Final = re.compile(r"\w+(?:[-'’]\w+)*")
TERMS_A_SENTENCE: Final = 12
FEW_LANGUAGES: Final = 12


class SamplingOptions(Section):
    """How the model chooses its words. By default the likeliest one each time, which is repeatable."""

    temperature: float = option(0.0, "0: greedy; above: sampled", ge=0)
    top_p: float = option(1.0, "share of probability that is sampled from", gt=0, le=1)
    seed: int = option(0, "of the sampling", ge=0)


class Glossary:
    """Terms with their translations, found in a sentence without regard to case.

    Args:
        terms: (source term, target term); of two translations of one term the first counts.
        spaces: whether the source language puts spaces between words; where not, a term may stand anywhere.
    """

    def __init__(self, terms: Iterable[Pair], *, spaces: bool = True) -> None:
        self._spaces = spaces
        self._terms: dict[str, Pair] = {}
        for term, translation in terms:
            self._terms.setdefault(self._key(term), (term, translation))
        self._longest = max((len(key.split()) for key in self._terms), default=0)

    @property
    def terms(self) -> list[Pair]:
        return list(self._terms.values())

    def find(self, sentence: str) -> list[Pair]:
        """The first `TERMS_A_SENTENCE` terms that stand in a sentence, in its order; of overlapping ones the longer."""
        if not self._spaces:
            folded = sentence.casefold()
            there = [key for key in self._terms if key in folded]
            longest = [key for key in there if not any(key != other and key in other for other in there)]
            return [self._terms[key] for key in sorted(longest, key=folded.index)][:TERMS_A_SENTENCE]
        words = self._key(sentence).split()
        found: dict[str, Pair] = {}
        start = 0
        while start < len(words):
            for end in range(min(len(words), start + self._longest), start, -1):
                key = " ".join(words[start:end])
                if key in self._terms:
                    found[key] = self._terms[key]
                    start = end - 1
                    break
            start += 1
        return list(found.values())[:TERMS_A_SENTENCE]

    def _key(self, text: str) -> str:
        return " ".join(_WORD.findall(text.casefold())) if self._spaces else text.casefold()


@dataclass(frozen=True)
class Specification:
    """One pair of languages and one way of asking.

    Attributes:
        examples: translated sentences that stand in every prompt; the same ones, so that engines reuse their prefix.
        tokens_ratio, tokens_margin: see `max_tokens`.
        chat_template_arguments: further arguments of the model's chat template, such as `enable_thinking: false`.
    """

    template: PromptTemplate
    source: Language
    target: Language
    examples: tuple[Pair, ...]
    glossary: Glossary
    sampling: SamplingOptions
    tokens_ratio: float
    tokens_margin: int
    chat_template_arguments: dict[str, Any]

    def prompt(self, sentence: str) -> list[Message] | str:
        """Chat messages, or the whole prompt where the template has the form `text`."""
        sentence = self._plain(sentence)
        values = language_values(self.source, self.target)
        terms = "; ".join(f"{source} = {target}" for source, target in self.glossary.find(sentence))
        note = fill(self.template.glossary, {**values, "terms": terms}) if terms else ""
        if self.template.form == "text":
            shown = (fill(self.template.example, {**values, "source": s, "target": t}) for s, t in self.examples)
            return fill(
                self.template.user, {**values, "source": sentence, "glossary": note, "examples": "".join(shown)}
            )
        system = fill(self.template.system, values)
        messages = [{"role": "system", "content": system}] if system else []
        for source, target in self.examples:
            asked = fill(self.template.user, {**values, "source": source, "glossary": ""})
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": target}]
        asked = fill(self.template.user, {**values, "source": sentence, "glossary": note})
        return [*messages, {"role": "user", "content": asked}]

    def max_tokens(self, sentence: str) -> int:
        """The most tokens an answer may have: `tokens_ratio` for each character of the sentence, and a margin.

        In characters, since a model behind HTTP does not tell its tokens beforehand.
        """
        return math.ceil(self.tokens_ratio * len(sentence)) + self.tokens_margin

    def read(self, sentence: str, answer: str, *, finished: bool = True) -> Translation:
        """What an answer comes to; `finished`: the model stopped by itself, before the limit of tokens."""
        return read_answer(sentence, answer, source=self.source.name, target=self.target.name, finished=finished)

    def fingerprint(self) -> str:
        """12 hexadecimal digits over everything that decides a prompt, its limit and its sampling."""
        value = [
            self.template.resolved(),
            self.source.code,
            self.target.code,
            self.examples,
            self.glossary.terms,
            self.sampling.resolved(),
            self.tokens_ratio,
            self.tokens_margin,
            self.chat_template_arguments,
        ]
        return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]

    def _plain(self, sentence: str) -> str:
        for control in self.template.control:
            sentence = sentence.replace(control, " ")
        return tidy(sentence)


def check_languages(known: Sequence[str] | None, *codes: str, what: str) -> None:
    """See that an engine speaks some languages; `known` are base codes, or codes with a region; none: any.

    Raises:
        ConfigError: it lacks one; says which ones of it are near.
    """
    for code in codes:
        if known is not None and code not in known and language(code).base not in known:
            raise ConfigError(f"{what} does not speak {language(code).name} ({code})", hint=nearest(code, known))


def check_names(template: PromptTemplate, source: str, target: str, *, what: str) -> None:
    """See that a template names no language in words whose name is not known here.

    Raises:
        ConfigError: it does; says which codes are near.
    """
    for code, placeholder in ((source, "source_language"), (target, "target_language")):
        if language(code).name == code and template.has(placeholder):
            table = [other.code for other in all_languages()]
            near = [short] if (short := shortest(code)) else difflib.get_close_matches(code, table, n=4, cutoff=0.4)
            meant = ", ".join(f"{other} ({language(other).name})" for other in near)
            raise ConfigError(
                f"does not know what to call the language {code}",
                where=what,
                hint=f"{f'near it is {meant}; ' if meant else ''}for one that is not known here, a prompt.template of "
                f"your own may name it, in place of {{{placeholder}}}",
            )


def nearest(code: str, known: Sequence[str]) -> str:
    """Which languages there are in place of one that lacks: all where they are few, else those of like name or code."""
    if len(known) <= FEW_LANGUAGES:
        return f"it speaks {', '.join(known)}"
    names = {language(other).name: other for other in known if is_code(other)}
    by_name = [names[name] for name in difflib.get_close_matches(language(code).name, names, n=3, cutoff=0.5)]
    near = list(dict.fromkeys([*by_name, *difflib.get_close_matches(code, known, n=4, cutoff=0.4), *sorted(known)]))[:6]
    return f"it speaks {', '.join(near)} and {len(known) - len(near)} others"
