"""How translation goes, in numbers: while it runs, and at the end."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.translate import SAMPLES, Done
from xlst_ray.progress import SECONDS_BETWEEN_LINES, clock, say


class TranslationMeter:
    """Sums what the engines have done and prints a line now and then, and one at the end.

    Args:
        title: of the lines.
        pending: sentences to translate.
        engines: that work at the same time.
        gpus: of each of them.
        price: of tokens and GPUs.
        unit: what the sentences are called.
    """

    def __init__(
        self, title: str, pending: int, engines: int, gpus: float, price: PriceOptions, unit: str = "sentences"
    ) -> None:
        self._unit = unit
        self._title, self._pending, self._engines, self._gpus, self._price = title, pending, engines, gpus, price
        self._began = self._printed = time.monotonic()
        self._reasons: Counter[str] = Counter()
        self.sentences = self.ok = self.input_tokens = self.output_tokens = 0
        self.engine_seconds = 0.0

    def add(self, done: Done) -> None:
        self._reasons.update(done["reasons"])
        self.sentences += done["sentences"]
        self.ok += done["ok"]
        self.input_tokens += done["input_tokens"]
        self.output_tokens += done["output_tokens"]
        self.engine_seconds += done["seconds"]
        now = time.monotonic()
        if self.sentences >= self._pending or now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            say(self.line())

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def gpu_hours(self) -> float:
        """Of the GPUs that were held, busy or not."""
        return self.seconds * self._engines * self._gpus / 3600

    @property
    def cost(self) -> float:
        tokens = self._price.of_tokens(self.input_tokens, self.output_tokens)
        return tokens + self.gpu_hours * self._price.gpu_hour

    def line(self) -> str:
        """Such as `translate en-ka (http)  512/2,000 sentences, 31/s, 810 tokens/s written, engines busy 97 %, ...`."""
        seconds, left = self.seconds, self._pending - self.sentences
        parts = [f"{self.sentences:,}/{self._pending:,} {self._unit}", f"{_rate(self.sentences / seconds)}/s"]
        if self.output_tokens:
            parts.append(f"{_rate(self.output_tokens / seconds)} tokens/s written")
        parts.append(f"engines busy {100 * self.engine_seconds / (seconds * self._engines):.0f} %")
        if self._reasons:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self._reasons.most_common())
            parts.append(f"without translation: {reasons}")
        if self._gpus:
            parts.append(f"{self.gpu_hours:.2f} GPU-hours")
        if self.cost:
            parts.append(f"cost {_money(self.cost)}")
        if self.sentences and left > 0:
            parts.append(f"to go {clock(seconds / self.sentences * left)}")
        return f"{self._title}  {', '.join(parts)}"

    def counts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "sentences": self.sentences,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "engine_seconds": round(self.engine_seconds, 1),
            "seconds": round(self.seconds, 1),
            "gpu_hours": round(self.gpu_hours, 3),
            "cost": round(self.cost, 4),
        }


def forecast(
    samples: Sequence[tuple[str, str]],
    meter: TranslationMeter,
    sentences: int,
    engines: int,
    gpus: float,
    price: PriceOptions,
) -> Iterator[str]:
    """Lines that show samples, and what so many sentences take at their rate.

    Args:
        samples: (sentence, translation).
        meter: what the sample took.
        sentences: of the whole, the sample included.
        engines, gpus: that are to work at the same time, and GPUs of each.
    """
    for text, translation in samples[:SAMPLES]:
        yield f"  {text}\n    -> {translation}"
    read, written = (tokens / meter.sentences for tokens in (meter.input_tokens, meter.output_tokens))
    seconds = meter.engine_seconds / meter.sentences
    tokens = f"{read:,.1f} tokens read and {written:,.1f} written" if read or written else "tokens not counted"
    ok = f"{meter.ok} of {meter.sentences} ok"
    yield f"a sentence of the sample: {1000 * seconds:,.1f} ms of an engine, {tokens}; {ok}"
    hours = seconds * sentences / engines / 3600
    cost = price.of_tokens(read, written) * sentences + hours * engines * gpus * price.gpu_hour
    parts = [
        f"{sentences:,} sentences",
        f"{clock(3600 * hours)} with {engines} engine{'s' * (engines > 1)}, start apart",
    ]
    if read or written:
        parts.append(f"{read * sentences:,.0f} tokens read, {written * sentences:,.0f} written")
    if gpus:
        parts.append(f"{hours * engines * gpus:,.1f} GPU-hours")
    parts.append(f"cost {_money(cost)}" if cost else "no price given")
    yield f"the whole, by that: {', '.join(parts)}"


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.2g}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"
