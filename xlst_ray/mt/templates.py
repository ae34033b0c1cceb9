"""Prompts for translation: how a sentence is asked for. Presets by family of models, or a file of the user's own."""

import difflib
import re
from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import model_validator

from xlst_ray.config import Section, option
from xlst_ray.languages import Language
from xlst_ray.mt.lm_info import SEP, SPECIALS

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_LANGUAGES: Final = ("source_language", "target_language", "source_code", "target_code")
_IN: Final = {  # what may stand in a field
    "system": _LANGUAGES,
    "user": (*_LANGUAGES, "source", "examples", "glossary"),
    "example": (*_LANGUAGES, "source", "target"),
    "glossary": (*_LANGUAGES, "terms"),
}


class PromptTemplate(Section):
    """How a sentence is asked for: the presets' form, and that of a template file in YAML."""

    form: Literal["chat", "text"] = option(
        "chat", "chat: messages, laid out by the model's own chat template; text: the prompt as it stands here"
    )
    system: str = option("", "chat: the system message; empty: none, so that the chat template puts its own")
    user: str = option(..., "the request for one sentence; {source} is the sentence")
    example: str = option("", "text: one worked example with {source} and {target}; all stand in place of {examples}")
    glossary: str = option(
        "Use these translations: {terms}.\n",
        "what stands in place of {glossary} where the sentence has a known {terms}",
    )
    stop: tuple[str, ...] = option((), "spellings at which an answer ends, besides the model's own end")
    control: tuple[str, ...] = option((), "spellings that the model reads as control: taken out of sentences")
    languages: tuple[str, ...] | None = option(None, "codes of the languages that the model speaks; none: any")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field, allowed in _IN.items():
            for name in _PLACEHOLDER.findall(getattr(self, field)):
                if name not in allowed:
                    near = difflib.get_close_matches(name, allowed, n=1)
                    meant = f", did you mean {{{near[0]}}}?" if near else f"; it may have {', '.join(allowed)}"
                    raise ValueError(f"{field} has an unknown placeholder {{{name}}}{meant}")
        needed = {"user": ("source",), "glossary": ("terms",), "example": ("source", "target") if self.example else ()}
        for field, names in needed.items():
            lacking = [f"{{{name}}}" for name in names if f"{{{name}}}" not in getattr(self, field)]
            if lacking:
                raise ValueError(f"{field} needs the placeholder {' and '.join(lacking)}")
        if self.form == "chat" and "{examples}" in self.user:
            raise ValueError("user must not have {examples}: in a chat they are earlier turns")
        if self.form == "text" and self.system:
            raise ValueError("system is for the form chat: write it into user")
        return self

    def has(self, placeholder: str) -> bool:
        """Whether a placeholder stands in any of its texts."""
        return any(f"{{{placeholder}}}" in text for text in (self.system, self.user, self.example, self.glossary))

    @property
    def takes_examples(self) -> bool:
        return self.form == "chat" or ("{examples}" in self.user and self.example != "")

    @property
    def takes_glossary(self) -> bool:
        return "{glossary}" in self.user


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders replaced, in one pass: a sentence that spells one is left as it is."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def language_values(source: Language, target: Language) -> dict[str, str]:
    """The values of the placeholders that name languages."""
    return {
        "source_language": source.name,
        "target_language": target.name,
        "source_code": source.code,
        "target_code": target.code,
    }


_TOWER: Final = "en de fr es zh pt it ru ko nl"
_EUROLLM: Final = (
    "bg hr cs da nl en et fi fr de el hu ga it lv lt mt pl pt ro sk sl es sv ar ca zh gl hi ja ko no nb ru tr uk"
)
_TRANSLATEGEMMA: Final = (
    "ar bg bn ca cs da de el en es et fa fi fil tl fr gu he hi hr hu id is it ja kn ko lt lv ml mr nl no nb pa pl pt ro"
    " ru sk sl sr sv sw ta te th tr uk ur vi zh zu"
)

PRESETS: Final[Mapping[str, PromptTemplate]] = {
    "general": PromptTemplate(
        system="You translate from {source_language} into {target_language}. Answer with the translation alone:"
        " no notes, no alternatives, no quotation marks around it.",
        user="{glossary}Translate this into {target_language}:\n{source}",
    ),
    # Model card of utter-project/EuroLLM-1.7B-Instruct; languages: that of EuroLLM-9B-Instruct.
    "eurollm": PromptTemplate(
        user="{glossary}Translate the following {source_language} source text to {target_language}:\n"
        "{source_language}: {source} \n{target_language}: ",
        control=("<|im_start|>", "<|im_end|>"),
        languages=tuple(_EUROLLM.split()),
    ),
    # Model card of Unbabel/TowerInstruct-7B-v0.2; languages: Alves et al. 2024, arXiv:2402.17733.
    "tower": PromptTemplate(
        user="{glossary}Translate the following text from {source_language} into {target_language}.\n"
        "{source_language}: {source}\n{target_language}:",
        control=("<|im_start|>", "<|im_end|>"),
        languages=tuple(_TOWER.split()),
    ),
    # What the chat template of google/translategemma-4b-it makes of its one content entry, written out, because not
    # every server takes the entry's own keys; languages: the 55 locales of WMT24++ (model card).
    "translategemma": PromptTemplate(
        form="text",
        user="<start_of_turn>user\nYou are a professional {source_language} ({source_code}) to {target_language}"
        " ({target_code}) translator. Your goal is to accurately convey the meaning and nuances of the original"
        " {source_language} text while adhering to {target_language} grammar, vocabulary, and cultural sensitivities.\n"
        "Produce only the {target_language} translation, without any additional explanations or commentary. Please"
        " translate the following {source_language} text into {target_language}:\n\n\n{source}<end_of_turn>\n"
        "<start_of_turn>model\n",
        stop=("<end_of_turn>",),
        control=("<start_of_turn>", "<end_of_turn>"),
        languages=tuple(_TRANSLATEGEMMA.split()),
    ),
    # Models of jobs/train_mt.py.
    "trained-lm": PromptTemplate(form="text", user="{source}" + SEP, control=SPECIALS),
}  # fmt: skip
