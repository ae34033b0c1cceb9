"""What an engine is to the rest of the project: something that translates a list of sentences, one pair of languages.

An engine is opened for one (source, target) pair (`xlst_ray.mt.engines.open_translator`) and may be anything that keeps
this contract: a model in this process, a server behind HTTP, a table. It batches as it likes within one call.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xlst_ray.shards.schema import LabelStatus


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of one sentence.

    Attributes:
        text: the translation; none unless status is `ok`.
        status: `ok`; `missing`: the engine has nothing for it; `error`: it tried and failed.
        error: why not, as `reason` or `reason: detail`; counts are by what stands before the colon.
        input_tokens: what the engine read for it, its prompt included; 0 where the engine counts none.
        output_tokens: what it wrote, also where that is no usable translation.
    """

    text: str | None
    status: LabelStatus
    error: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0


class Translator(Protocol):
    """An engine opened for one pair of languages."""

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        """One result a text, in the order of the texts; a sentence that fails is a result, never an exception.

        Raises:
            TranslationError: the engine as a whole cannot work (a server that is gone).
        """
        ...


def tidy(text: str) -> str:
    """A sentence as engines see it, and as equal sentences are recognised: Unicode NFC, single spaces, no margins."""
    return " ".join(unicodedata.normalize("NFC", text).split())
