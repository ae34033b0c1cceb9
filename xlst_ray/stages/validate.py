"""Validation of a shard folder: every row looked at, and what only the whole shows: ids, languages, leakage."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice

from xlst_ray import storage
from xlst_ray.cluster.options import TaskCluster
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.report.validation import SplitFacts, Validation
from xlst_ray.shards.files import read_shard, shard_urls
from xlst_ray.shards.inspect import Inspection, inspect_shard
from xlst_ray.shards.schema import SPLITS
from xlst_ray.text.identify import other_language
from xlst_ray.text.leakage import find_overlap

TEXTS_IDENTIFIED = 2000  # of each split: its first ones


def validate(shards: str, labels: str | None, cluster: TaskCluster, *, pool: int | None = None) -> Validation:
    """Look at a shard folder, and at the labels for it where there are some.

    Args:
        pool: 0 does all in this process; none: tasks on the cluster.

    Raises:
        DataError: there are no shards.
    """
    present = [split for split in SPLITS if storage.list_files(storage.join(shards, split), ".parquet")]
    seen: dict[str, Inspection] = {}
    readable: dict[str, list[str]] = {}
    for split in present or SPLITS[:1]:
        urls, whole = shard_urls(shards, split), Inspection()
        work = partial(_inspector, labels)
        for found in map_items(f"validate {split}", "shards", work, urls, cluster, pool=pool):
            whole.add(Inspection.from_json(found))
        seen[split] = whole
        readable[split] = [url for url in urls if url not in whole.unreadable]
        _check_ids(whole, readable[split])
    langs = sorted({lang for urls in readable.values() for lang in _column(urls, "lang")})
    if len(langs) == 1:
        _check_language(seen, readable, langs[0])
        _check_leakage(seen, readable, langs[0])
    facts = {split: SplitFacts(whole, _rejected(storage.join(shards, split))) for split, whole in seen.items()}
    return Validation(shards, labels, tuple(langs), facts)


def _inspector(labels: str | None) -> Work:
    return lambda url: inspect_shard(url, labels).to_json()


def _column(urls: Iterable[str], name: str) -> Iterator[str]:
    for url in urls:
        yield from read_shard(url, [name])[name].to_pylist()


def _check_ids(seen: Inspection, urls: Iterable[str]) -> None:
    met: set[int] = set()  # numbers in place of the ids: millions of them
    for url in urls:
        for name in _column([url], "id"):
            if hash(name) in met:
                seen.note("duplicate-id", f"{url}: {name}")
            met.add(hash(name))


def _check_language(seen: Mapping[str, Inspection], readable: Mapping[str, list[str]], lang: str) -> None:
    for split, urls in readable.items():
        texts = list(islice((text for text in _column(urls, "text") if text.strip()), TEXTS_IDENTIFIED))
        other = other_language(texts, lang)
        if other is not None:
            place = f"{split}: {texts[0][:60]!r} and most others look like {other}, not {lang}"
            seen[split].note("other-language", place, len(texts))


def _check_leakage(seen: Mapping[str, Inspection], readable: Mapping[str, list[str]], lang: str) -> None:
    """Training sentences and speakers that the other splits have too."""
    if "train" not in readable:
        return
    held_out = {split: urls for split, urls in readable.items() if split != "train"}
    texts = {split: _column(urls, "text") for split, urls in held_out.items()}
    for overlap in find_overlap(texts, {"train": _column(readable["train"], "text")}, lang).overlaps:
        for count, example in zip([overlap.overlapping, 0, 0], overlap.examples, strict=False):
            seen["train"].note("leakage", f"{overlap.held_out}: {example[:60]!r}", count)
    trained = {speaker for speaker in _column(readable["train"], "speaker") if speaker}
    for split, urls in held_out.items():
        shared = Counter(speaker for speaker in _column(urls, "speaker") if speaker in trained)
        for speaker, rows in shared.most_common():
            seen[split].note("shared-speakers", speaker, rows)


def _rejected(folder: str) -> dict[str, int]:
    """What was rejected when the shards were made, by reason."""
    total: Counter[str] = Counter()
    for url in storage.list_files(folder, ".counts.json"):
        total.update(storage.read_json(url)["rejected"])
    return dict(total.most_common())
