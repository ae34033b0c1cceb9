"""How encoder-decoder translation models are told their languages, by the kind of their tokenizer.

| models | source | target |
|---|---|---|
| NLLB-200, M2M-100 | its code before the sentence | its code as the first token of the translation |
| MADLAD-400 | not told | `<2fi>` before the sentence |
| OPUS-MT into many languages | not told | `>>fin<<` before the sentence |
| OPUS-MT of one pair | not told | not told |

Sources: the models' pages in the documentation of transformers (NLLB, M2M100, MADLAD-400, MarianMT).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from xlst_ray.errors import ConfigError
from xlst_ray.mt.language_codes import candidates, find_code
from xlst_ray.mt.specification import nearest

_OPUS: Final = re.compile(r">>(\w+)<<")
_MADLAD: Final = re.compile(r"<2(\w+)>")
_CODE: Final = re.compile(r"[a-z]{2,3}(?:_[A-Z][a-z]{3})?")


@dataclass(frozen=True)
class PairTokens:
    """A tokenizer set to one pair of languages.

    Attributes:
        prefix: text before every sentence.
        first: the token that a translation begins with, beyond the model's own start; none: none.
    """

    tokenizer: Any
    prefix: str
    first: str | None

    def encode(self, text: str) -> list[int]:
        """Token ids of a sentence, all that the encoder wants around it included."""
        return [int(token) for token in self.tokenizer(f"{self.prefix}{text}")["input_ids"]]


def tell_languages(tokenizer: Any, source: str, target: str, where: str) -> PairTokens:
    """The tokenizer of a model, told its languages.

    Raises:
        ConfigError: the model lacks one of them (with those near), or is of a kind that is not known here.
    """
    kind = type(tokenizer).__name__
    vocabulary = tokenizer.get_vocab()
    if kind.startswith(("Nllb", "M2M100")):
        return _by_codes(tokenizer, source, target, where)
    if kind.startswith("Marian"):
        return _opus(tokenizer, vocabulary, source, target, where)
    if any(_MADLAD.fullmatch(token) for token in vocabulary):
        prefix = find_code(target, vocabulary, "<2{}>")
        if prefix is None:
            raise _lacks(target, (match[1] for match in map(_MADLAD.fullmatch, vocabulary) if match), where)
        return PairTokens(tokenizer, f"{prefix} ", None)
    raise ConfigError(
        f"has a tokenizer of a kind that is not known to translate ({kind})",
        where=where,
        hint="engines transformers and ctranslate2 take NLLB-200, M2M-100, MADLAD-400 and OPUS-MT",
    )


def _by_codes(tokenizer: Any, source: str, target: str, where: str) -> PairTokens:
    # M2M100 writes its codes as `__fi__`, and is told them as `fi`.
    codes = getattr(tokenizer, "lang_code_to_token", None) or {
        token: token for token in tokenizer.all_special_tokens if _CODE.fullmatch(token)
    }
    found = {language: find_code(language, codes) for language in (source, target)}
    for language, code in found.items():
        if code is None:
            raise _lacks(language, codes, where)
    tokenizer.src_lang, tokenizer.tgt_lang = found[source], found[target]
    return PairTokens(tokenizer, "", codes[str(found[target])])


def _opus(tokenizer: Any, vocabulary: Any, source: str, target: str, where: str) -> PairTokens:
    codes = [match[1] for match in map(_OPUS.fullmatch, vocabulary) if match]
    if codes:
        prefix = find_code(target, vocabulary, ">>{}<<")
        if prefix is None:
            raise _lacks(target, codes, where)
        return PairTokens(tokenizer, f"{prefix} ", None)
    for language, told in ((source, tokenizer.source_lang), (target, tokenizer.target_lang)):
        if told and told not in candidates(language):
            pair = f"{tokenizer.source_lang} to {tokenizer.target_lang}"
            raise ConfigError(f"translates {pair}, not {source} to {target}", where=where)
    return PairTokens(tokenizer, "", None)


def _lacks(code: str, known: Iterable[str], where: str) -> ConfigError:
    return ConfigError(f"the model does not speak {code}", where=where, hint=nearest(code, sorted(known)))
