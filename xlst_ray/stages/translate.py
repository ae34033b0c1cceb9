"""Source texts through engines, on the cluster: those that are not known yet are translated."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict

import pyarrow as pa

from xlst_ray.cluster import metrics
from xlst_ray.cluster.llm import translate_with_llm
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.errors import TranslationError
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.meter import TranslationMeter, forecast
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation, Translator
from xlst_ray.mt.specification import Specification
from xlst_ray.mt.translate import Done, choose, first_portion, summarize, translate_bucket
from xlst_ray.mt.translations import Translations
from xlst_ray.progress import say
from xlst_ray.stages.source_texts import tasks

OpenEngine = Callable[[str], Translator]  # by target language


@dataclass(frozen=True)
class LlmEngine:
    """In place of a translator in each process: vLLM, which the cluster runs over all buckets.

    Attributes:
        specifications: what is asked, by target language.
    """

    options: EngineOptions
    specifications: dict[str, Specification]


Engine = OpenEngine | LlmEngine


@dataclass(frozen=True)
class Wanted:
    """Translations that a label set needs.

    Attributes:
        title: what progress lines say.
        target: language code.
        translations: where they are kept, and those of earlier runs are found.
        run: fingerprint of the label set, which pays.
        attempt: 0; from 1 on, what failed in earlier attempts is tried again.
        unit: what the sentences are called.
        about: the engine, for the folder of the translations.
    """

    title: str
    target: str
    translations: Translations
    run: str
    attempt: int = 0
    unit: str = "sentences"
    about: dict[str, Any] = field(default_factory=dict)


class Survey(TypedDict):
    """What a label set still needs: `pending` sentences by bucket, and the tokens that it has paid for."""

    pending: dict[int, int]
    input_tokens: int
    output_tokens: int


def survey(texts: SourceTexts, wanted: Sequence[Wanted], cluster: ClusterOptions) -> list[Survey]:
    """What each label set still needs."""
    items = [(index, block) for index in range(len(wanted)) for block in range(texts.blocks)]
    found: list[Survey] = [{"pending": {}, "input_tokens": 0, "output_tokens": 0} for _ in wanted]
    look_up, pool = partial(_surveyor, texts, wanted), tasks(cluster)
    for part in map_items(f"look up {wanted[0].unit}", "blocks", look_up, items, cluster, pool=pool):
        one = found[part["index"]]
        one["pending"].update({bucket: number for bucket, number in part["pending"] if number})
        one["input_tokens"] += part["input_tokens"]
        one["output_tokens"] += part["output_tokens"]
    return found


def pending_in(found: Sequence[Survey]) -> int:
    """Sentences that label sets still need, all together."""
    return sum(sum(one["pending"].values()) for one in found)


def translate(
    texts: SourceTexts, wanted: Sequence[Wanted], engine: Engine, price: PriceOptions, cluster: ClusterOptions
) -> list[dict[str, Any]]:
    """Have every sentence translated that is not known yet, for all label sets in one pool of engines.

    Returns:
        For each label set the counts for its manifest; times and tokens are those of all together.

    Raises:
        TranslationError: the engine cannot work, or the cap is reached before the end.
    """
    found = survey(texts, wanted, cluster)
    distinct = (texts.counts or {})["distinct"]
    pending = [sum(one["pending"].values()) for one in found]
    for one, missing in zip(wanted, pending, strict=True):
        saved = 100 * (1 - missing / texts.rows)
        say(
            f"{one.title}: {texts.rows:,} rows, {distinct:,} distinct {one.unit}, {distinct - missing:,} of them "
            f"known already: {missing:,} to do, {saved:.1f} % saved"
        )
    title = wanted[0].title if len(wanted) == 1 else "translate"
    meter = TranslationMeter(title, pending_in(found), engines(cluster), cluster.translator_gpus, price, wanted[0].unit)
    if isinstance(engine, LlmEngine):
        _repeated(texts, wanted, found, engine, price, cluster, meter)
    elif price.cap is None:
        _pass(texts, wanted, _items(found, None), engine, price, cluster, meter)
    else:
        _capped(texts, wanted, found, engine, price, cluster, meter)
    shared = meter.counts()
    return [{"distinct": distinct, "found": distinct - missing, **shared} for missing in pending]


def _repeated(
    texts: SourceTexts,
    wanted: Sequence[Wanted],
    found: list[Survey],
    engine: LlmEngine,
    price: PriceOptions,
    cluster: ClusterOptions,
    meter: TranslationMeter,
) -> None:
    """Pass after pass until nothing is left: a process that dies may take along what has been translated, not kept."""
    left = pending_in(found)
    while left:
        _pass(texts, wanted, _items(found, None), engine, price, cluster, meter)
        found = survey(texts, wanted, cluster)
        before, left = left, pending_in(found)
        if left >= before:
            raise TranslationError(
                f"{left:,} sentences went through the engine and were lost",
                hint="what died? Ray's logs (/tmp/ray/session_latest/logs) tell; the same command tries again",
            )


def _capped(
    texts: SourceTexts,
    wanted: Sequence[Wanted],
    found: list[Survey],
    engine: Engine,
    price: PriceOptions,
    cluster: ClusterOptions,
    meter: TranslationMeter,
) -> None:
    """Pass after pass, each bucket with an equal share of what may still be spent, and no more buckets than that pays a
    first portion of; the very first pass is one portion, which tells what sentences cost. So what is sent beyond the
    cap is less than a portion of one engine."""
    before = _paid(found, price)
    while any(one["pending"] for one in found):
        spent = price.of_tokens(meter.input_tokens, meter.output_tokens)
        remaining = _remaining(found, price, before + spent)
        if spent:
            items = _items(found, remaining, max(1, int(remaining / first_portion(spent, meter.sentences))))
        else:
            items = _items(found, 0.0, 1)
        _pass(texts, wanted, items, engine, price, cluster, meter)
        found = survey(texts, wanted, cluster)


def _paid(found: Sequence[Survey], price: PriceOptions) -> float:
    return price.of_tokens(sum(one["input_tokens"] for one in found), sum(one["output_tokens"] for one in found))


def _remaining(found: Sequence[Survey], price: PriceOptions, spent: float) -> float:
    """What may still be spent. Raises `TranslationError` where that is nothing."""
    if price.cap is None or spent < price.cap:
        return math.inf if price.cap is None else price.cap - spent
    raise TranslationError(
        f"price.cap is reached: {spent:,.2f} of {price.cap:,.2f} spent, {pending_in(found):,} sentences are left",
        hint="raise the cap and run the same command: it goes on from here",
    )


def estimate(
    texts: SourceTexts,
    wanted: Sequence[Wanted],
    engine: Engine,
    price: PriceOptions,
    cluster: ClusterOptions,
    limit: int,
) -> None:
    """Print for each label set what is left to translate; samples of at most `limit` sentences, which are kept; and
    what the whole may take, by them."""
    counts = texts.counts or {}
    characters = counts["characters"] / counts["distinct"]
    found = survey(texts, wanted, cluster)
    spent = _paid(found, price)
    for index, (one, needed) in enumerate(zip(wanted, found, strict=True)):
        missing, sampled = sum(needed["pending"].values()), 0
        items: list[dict[str, Any]] = []
        remaining = _remaining(found, price, spent) if limit else 0.0
        say(
            f"{one.title}: {texts.rows:,} rows, {counts['distinct']:,} distinct sentences, {missing:,} of them to "
            f"translate (about {missing * characters:,.0f} characters)"
        )
        for bucket, number in sorted(needed["pending"].items()):
            if sampled < limit:
                items.append({"index": index, "bucket": bucket, "most": min(number, limit - sampled)})
                sampled += number
        if items:
            share = None if price.cap is None else remaining / len(items)
            items = [{**item, "budget": share} for item in items]
            meter = TranslationMeter(f"{one.title}, sample", min(sampled, limit), engines(cluster), 0.0, price)
            done = _pass(texts, wanted, items, engine, price, cluster, meter)
            spent += price.of_tokens(meter.input_tokens, meter.output_tokens)
            samples = [pair for part in done for pair in part["samples"]]
            for line in forecast(samples, meter, missing, engines(cluster), cluster.translator_gpus, price):
                say(line)
        elif missing:
            say("with --limit 200 so many are translated as a sample, which tells tokens, time and cost of the whole")


def _items(found: Sequence[Survey], budget: float | None, most: int | None = None) -> list[dict[str, Any]]:
    """The buckets that have pending sentences, at most so many; label set by label set, so that an engine opens each
    target once; within a set in another order each time: two runs at once then share the work, for each bucket is
    looked up before it is sent."""
    buckets = [(index, bucket) for index, one in enumerate(found) for bucket in _shuffled(one["pending"])][:most]
    share = None if budget is None else budget / max(len(buckets), 1)
    return [{"index": index, "bucket": bucket, "budget": share} for index, bucket in buckets]


def _shuffled(buckets: Iterable[int]) -> list[int]:
    order = list(buckets)
    random.shuffle(order)
    return order


def _pass(
    texts: SourceTexts,
    wanted: Sequence[Wanted],
    items: Sequence[dict[str, Any]],
    engine: Engine,
    price: PriceOptions,
    cluster: ClusterOptions,
    meter: TranslationMeter,
) -> list[Done]:
    results: Iterator[Done]
    for index in sorted({item["index"] for item in items}):
        wanted[index].translations.describe(wanted[index].about)
    if isinstance(engine, LlmEngine):
        work = LlmBuckets(texts, wanted, engine.specifications)
        results = _timed(translate_with_llm(wanted[0].title, items, work, engine.options, cluster))
    else:
        results = map_items(
            wanted[0].title,
            "buckets",
            partial(_translator, texts, wanted, engine, price),
            items,
            cluster,
            pool=cluster.translators,
            cpus=cluster.translator_cpus,
            gpus=cluster.translator_gpus,
            quiet=True,
        )
    done = []
    for result in results:
        meter.add(result)
        metrics.count_rows(result["ok"], result["reasons"])
        metrics.count("tokens", result["output_tokens"])
        done.append(result)
    return done


def _timed(parts: Iterator[tuple[Done, float]]) -> Iterator[Done]:
    for done, seconds in parts:
        done["seconds"] = seconds
        yield done


@dataclass(frozen=True)
class LlmBuckets:
    """The buckets of label sets as an `LlmWork`: what is pending in them, and where its translations are kept."""

    texts: SourceTexts
    wanted: Sequence[Wanted]
    specifications: dict[str, Specification]

    def load(self, item: dict[str, Any]) -> list[str]:
        one = self.wanted[item["index"]]
        chosen = choose(self.texts, item["bucket"], one.translations, one.attempt, item.get("most"))
        return [str(text) for text in chosen.to_pylist()]

    def specification(self, item: dict[str, Any]) -> Specification:
        return self.specifications[self.wanted[item["index"]].target]

    def keep(self, item: dict[str, Any], texts: Sequence[str], results: Sequence[Translation]) -> Done:
        one, bits, column = self.wanted[item["index"]], self.texts.name(item["bucket"]), pa.array(texts, pa.string())
        one.translations.add(bits, column, results, attempt=one.attempt, run=one.run)
        return summarize(column, results, 0.0, samples="most" in item)


def _translator(texts: SourceTexts, wanted: Sequence[Wanted], engine: OpenEngine, price: PriceOptions) -> Work:
    opened: dict[str, Translator] = {}

    def work(item: dict[str, Any]) -> Done:
        one = wanted[item["index"]]
        if one.target not in opened:
            opened.clear()  # one model at a time
            opened[one.target] = engine(one.target)
        return translate_bucket(
            texts,
            item["bucket"],
            one.translations,
            opened[one.target],
            run=one.run,
            attempt=one.attempt,
            most=item.get("most"),
            price=price,
            budget=item["budget"],
        )

    return work


def _surveyor(texts: SourceTexts, wanted: Sequence[Wanted]) -> Work:
    def work(item: tuple[int, int]) -> dict[str, Any]:
        index, block = item
        one, pending, tokens = wanted[index], [], [0, 0]
        for bucket in texts.block(block):
            bits = texts.name(bucket)
            pending.append((bucket, len(one.translations.pending(texts.bucket(bucket), bits, one.attempt))))
            paid = one.translations.tokens_of(bits, one.run)
            tokens = [tokens[0] + paid[0], tokens[1] + paid[1]]
        return {"index": index, "pending": pending, "input_tokens": tokens[0], "output_tokens": tokens[1]}

    return work


def engines(cluster: ClusterOptions) -> int:
    """Engines that work at the same time."""
    return max(1, cluster.translators)
