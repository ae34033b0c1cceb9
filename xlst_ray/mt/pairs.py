"""Parallel text to train a translation model on: from shards, tables, pairs of files, translation memories,
gettext catalogues or the demo's grammar."""

import random
from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from xlst_ray.config import Section, absolute, option
from xlst_ray.demo.corpus import parallel_pairs
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.bitext import read_moses, read_tmx
from xlst_ray.mt.catalogues import find_catalogues, prose, read_catalogue
from xlst_ray.mt.protocol import tidy
from xlst_ray.mt.tables import read_table
from xlst_ray.shards.files import read_shard, shard_urls

Pair = tuple[str, str]  # source sentence, target sentence
SOURCE: Final = "source"  # as a path: the shards of a recipe's source language


def _absolute(path: str) -> str:
    return path if path == SOURCE else absolute(path)


class PairsOptions(Section):
    """One source of parallel sentences."""

    kind: Literal["shards", "tsv", "moses", "tmx", "gettext", "demo"] = option(
        "shards",
        "shards: human translations of a training split; tsv: a table whose header names the languages;"
        " moses: two files of equally many lines; tmx: a translation memory;"
        " gettext: catalogues of two languages joined by message; demo: the built-in grammar",
    )
    path: Annotated[str, AfterValidator(_absolute)] | None = option(
        None,
        "shard folder, table, translation memory, what stands before .<language> in the names of two files, or the root"
        " below which catalogues lie;"
        " in a recipe `source` stands for the shards of its source language",
    )
    limit: int | None = option(None, "the first so many after the shuffle", ge=1, unit="pairs")
    seed: int = option(0, "of the shuffle; a smaller limit is a part of a larger one", ge=0)
    min_words: int = option(1, "shortest sentence, on both sides", ge=1, unit="words")
    max_words: int = option(40, "longest sentence, on both sides", ge=1, unit="words")
    demo: DemoOptions = option(DemoOptions, "for kind demo")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "demo" and self.path is None:
            raise ValueError(f"kind {self.kind} needs a path")
        if self.kind == "demo" and self.path is not None:
            raise ValueError("kind demo takes no path")
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


def read_pairs(options: PairsOptions, source: str, target: str) -> Iterator[Pair]:
    """Distinct (source, target) sentence pairs, tidied, shuffled by seed, up to the limit.

    Raises:
        ConfigError: the place has not both languages.
        DataError: missing or damaged files, or no pair at all.
    """
    distinct = dict.fromkeys((tidy(left), tidy(right)) for left, right in _read(options, source, target))
    fitting = sorted(pair for pair in distinct if all(_fits(side, options) for side in pair))
    if not fitting:
        raise DataError(
            f"has no {source}-{target} sentence pairs of {options.min_words} to {options.max_words} words",
            where=options.path or "demo",
            hint=f"it has {len(distinct)} shorter or longer ones: set min_words and max_words"
            if distinct
            else f"nothing in it has text in both {source} and {target}",
        )
    random.Random(options.seed).shuffle(fitting)
    yield from fitting[: options.limit]


def _fits(sentence: str, options: PairsOptions) -> bool:
    return options.min_words <= len(sentence.split()) <= options.max_words


def _read(options: PairsOptions, source: str, target: str) -> Iterator[Pair]:
    if options.kind == "demo" or options.path is None:
        return _from_demo(options.demo, source, target)
    if options.kind == "shards":
        return _from_shards(options.path, source, target)
    if options.kind == "tsv":
        return read_table(options.path, source, target)
    if options.kind == "moses":
        return read_moses(options.path, source, target)
    if options.kind == "tmx":
        return read_tmx(options.path, source, target)
    return _from_gettext(options.path, source, target)


def _from_shards(folder: str, source: str, target: str) -> Iterator[Pair]:
    for url in shard_urls(folder, "train"):
        for row in read_shard(url, ["text", "lang", "translations"]).to_pylist():
            if row["lang"] != source:
                raise ConfigError(f"holds speech in {row['lang']}, not in {source}", where=url)
            translation = dict(row["translations"]).get(target)
            if translation is not None:
                yield row["text"], translation


def _from_gettext(root: str, source: str, target: str) -> Iterator[Pair]:
    catalogues = find_catalogues(root)
    for language in (source, target):
        if language != "en" and language not in catalogues:
            raise ConfigError(
                f"has no catalogues of the language {language}",
                where=root,
                hint=f"<lang>/LC_MESSAGES/*.mo is there for: {', '.join(sorted(catalogues)) or 'no language'}",
            )
    for domain in sorted(catalogues.get(source, {}).keys() | catalogues.get(target, {}).keys()):
        left, right = (_messages(catalogues.get(language, {}).get(domain, [])) for language in (source, target))
        for key in left.keys() | right.keys():
            # Message ids are English; a catalogue of English proper is rare and need not exist.
            pair = [
                side.get(key) or (key.rpartition("\x04")[2] if language == "en" else "")
                for side, language in ((left, source), (right, target))
            ]
            first, second = (prose(message) for message in pair)
            if first and second and first != second:  # the same in both languages: a name, or left untranslated
                yield first, second


def _messages(urls: list[str]) -> dict[str, str]:
    return {key: text for url in urls for key, text in read_catalogue(url).items()}


def _from_demo(options: DemoOptions, source: str, target: str) -> Iterator[Pair]:
    if (source, target) != ("en", "fi"):
        raise ConfigError(f"the demo's grammar speaks English (en) and Finnish (fi), not {source} and {target}")
    yield from parallel_pairs(options)
