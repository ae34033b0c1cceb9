"""One bucket through an engine: what is pending is translated, and kept as it comes."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, TypedDict

import numpy as np
import pyarrow as pa

from xlst_ray.errors import TranslationError
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.labels import reason
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation, Translator
from xlst_ray.mt.translations import Translations

PORTION: Final = 1024  # sentences in a call of the engine: enough to fill it, few enough to be lost
CAPPED_PORTION: Final = 128  # the same under a cap, which is looked at between the calls
SECONDS_AT_RISK: Final = 60.0  # of the engine's work, before it is kept
SAMPLES: Final = 10


class Done(TypedDict):
    """What became of a bucket's pending sentences. `reasons` counts those without a translation; `seconds` are those
    within the engine; `samples`: (sentence, translation or error)."""

    sentences: int
    ok: int
    reasons: dict[str, int]
    input_tokens: int
    output_tokens: int
    seconds: float
    samples: list[tuple[str, str]]


def translate_bucket(
    texts: SourceTexts,
    bucket: int,
    translations: Translations,
    translator: Translator,
    *,
    run: str,
    attempt: int = 0,
    most: int | None = None,
    price: PriceOptions | None = None,
    budget: float | None = None,
) -> Done:
    """Translate a bucket's sentences that are not known yet. What the engine has done is kept also when it then fails.

    Args:
        run: the label set that pays.
        attempt: from 1 on, failures of earlier attempts are pending, too.
        most: translate at most so many, evenly from the whole bucket.
        price, budget: stop where another portion would cost more than the budget; the first is sent in any case.

    Raises:
        TranslationError: the engine cannot work, breaks its contract, or counts no tokens where a budget needs them.
    """
    chosen = choose(texts, bucket, translations, attempt, most)
    keeper = _Keeper(translations, texts.name(bucket), chosen, attempt, run)
    try:
        for start in range(0, len(chosen), PORTION if budget is None else CAPPED_PORTION):
            size = PORTION if budget is None else CAPPED_PORTION
            keeper.take(translator, chosen.slice(start, size).to_pylist())
            if budget is not None and price is not None and _spent(keeper.results, price, size) > budget:
                break
    finally:
        keeper.keep()
    return summarize(chosen, keeper.results, keeper.seconds, samples=most is not None)


def choose(
    texts: SourceTexts, bucket: int, translations: Translations, attempt: int = 0, most: int | None = None
) -> pa.Array:
    """The sentences of a bucket to translate: those that are not known yet, or at most so many, evenly from them."""
    pending = translations.pending(texts.bucket(bucket), texts.name(bucket), attempt)
    if most is None or len(pending) <= most:
        return pending
    return pending.take(pa.array(np.linspace(0, len(pending), most, endpoint=False).astype(np.int64)))


class _Keeper:
    """Gathers results, and keeps them when a minute's worth would be lost."""

    def __init__(self, translations: Translations, bits: str, texts: pa.Array, attempt: int, run: str) -> None:
        self._translations, self._bits, self._texts = translations, bits, texts
        self._attempt, self._run, self._kept = attempt, run, 0
        self._last = time.monotonic()
        self.results: list[Translation] = []
        self.seconds = 0.0

    def take(self, translator: Translator, texts: Sequence[str]) -> None:
        began = time.monotonic()
        results = translator.translate(texts)
        now = time.monotonic()
        self.seconds += now - began
        if len(results) != len(texts):
            raise TranslationError(f"the engine gave {len(results)} results for {len(texts)} sentences")
        self.results += results
        if now - self._last > SECONDS_AT_RISK:
            self.keep()

    def keep(self) -> None:
        kept, self._kept, self._last = self._kept, len(self.results), time.monotonic()
        if self._kept > kept:
            texts, results = self._texts[kept : self._kept], self.results[kept:]
            self._translations.add(self._bits, texts, results, attempt=self._attempt, run=self._run)


def first_portion(cost: float, sentences: int) -> float:
    """What a bucket costs at least under a cap, by what so many sentences have cost."""
    return cost / sentences * CAPPED_PORTION


def _spent(results: Sequence[Translation], price: PriceOptions, more: int) -> float:
    """What sentences have cost, and so many more like them would."""
    cost = price.of_tokens(sum(r.input_tokens for r in results), sum(r.output_tokens for r in results))
    if cost == 0 and any(result.status == "ok" for result in results):
        raise TranslationError(
            "the engine counts no tokens, so that price.cap cannot be kept", hint="leave out the cap"
        )
    return cost * (1 + more / len(results))


def summarize(texts: pa.Array, results: Sequence[Translation], seconds: float, *, samples: bool) -> Done:
    """What became of sentences; `texts` may be longer, by what was not sent."""
    shown = [(text.as_py(), result.text or f"({result.error})") for text, result in zip(texts, results, strict=False)]
    return {
        "sentences": len(results),
        "ok": sum(result.status == "ok" for result in results),
        "reasons": dict(Counter(reason(result.error or "") for result in results if result.status != "ok")),
        "input_tokens": sum(result.input_tokens for result in results),
        "output_tokens": sum(result.output_tokens for result in results),
        "seconds": seconds,
        "samples": shown[:: max(1, len(shown) // SAMPLES)][:SAMPLES] if samples else [],
    }
