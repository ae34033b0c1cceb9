"""What is done with text before training: the sentences held out, the vocabulary, the check for leakage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import Work, map_items
from xlst_ray.mt.buckets import group_shards
from xlst_ray.progress import say
from xlst_ray.shards.files import iter_texts, shard_urls
from xlst_ray.shards.scores import iter_translations
from xlst_ray.stages.source_texts import tasks
from xlst_ray.stages.stage import StageResult
from xlst_ray.text.keep import KeepOptions
from xlst_ray.text.leakage import (
    LeakageOptions,
    LeakageReport,
    Matches,
    match,
    report_matches,
    sentence_key,
    sentence_keys,
    sum_matches,
)
from xlst_ray.text.normalise import TextOptions, normalise
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary

HELD_OUT_SPLITS = ("test", "dev")
HELD_OUT_FILE = "held-out.txt"
VOCABULARY_FILE = "vocabulary.model"


@dataclass(frozen=True)
class HeldOut:
    """The target sentences that no training text may hold.

    Attributes:
        shards: folder of the target language's shards, whose dev and test splits are held out.
        lang: their language.
        options: which of them count, and what becomes of them in training texts.
    """

    shards: str
    lang: str
    options: LeakageOptions

    @cached_property
    def keys_by_split(self) -> dict[str, frozenset[str]]:
        """Keys (`sentence_key`) of the held-out sentences of each split."""
        texts = {split: iter_texts(self.shards, split) for split in HELD_OUT_SPLITS}
        return {split: sentence_keys(texts[split], self.lang, self.options.min_words) for split in texts}

    @property
    def keys(self) -> frozenset[str]:
        """Keys of all held-out sentences."""
        return frozenset().union(*self.keys_by_split.values())

    def check(self, training: Mapping[str, Iterable[str]]) -> LeakageReport:
        """`judge` for training texts of the target language, which are read once."""
        keys = self.keys
        return self.judge({name: match(texts, keys, self.lang) for name, texts in training.items()})

    def judge(self, training: Mapping[str, Matches]) -> LeakageReport:
        """Print and judge the overlap of training texts, by what of them matches `keys`.

        Raises:
            LeakageError: a test or dev sentence stands in a text that is neither to be dropped from nor allowed.
        """
        report = report_matches(self.keys_by_split, training, self.lang)
        say(report.table())
        report.refuse([*self.options.allow, *self.options.drop])
        return report


def match_labels(
    title: str,
    held_out: HeldOut,
    speech: StageResult,
    labels: str,
    keep: KeepOptions | None,
    cluster: ClusterOptions,
) -> Matches:
    """The labels of some speech that are trained on, against held-out sentences: on the cluster, group by group."""
    groups = group_shards(shard_urls(speech.folder, "train"), speech.counts["train"]["kept"])
    matcher = partial(_matcher, held_out.keys, held_out.lang, labels, keep)
    return sum_matches(map_items(title, "groups", matcher, groups, cluster, pool=tasks(cluster)))


def _matcher(keys: frozenset[str], lang: str, labels: str, keep: KeepOptions | None) -> Work:
    return lambda urls: match(iter_translations(urls, labels, keep), keys, lang)


def write_held_out(held_out: HeldOut, folder: str) -> dict[str, Any]:
    """The file of held-out keys, which training reads to leave those sentences out."""
    keys = sorted(held_out.keys)
    storage.write_lines(storage.join(folder, HELD_OUT_FILE), keys)
    return {"sentences": len(keys)}


def read_held_out(url: str) -> frozenset[str]:
    return frozenset(storage.read_bytes(url).decode().splitlines())


def without_held_out(texts: Iterable[str], keys: frozenset[str], lang: str) -> Iterator[str]:
    return (text for text in texts if sentence_key(text, lang) not in keys)


def make_vocabulary(
    texts: Sequence[tuple[str, Iterable[str]]], text: TextOptions, options: VocabularyOptions, folder: str
) -> dict[str, Any]:
    """Train the vocabulary over texts, each with its language, into `folder/vocabulary.model`."""
    normalised = (normalise(sentence, lang, text) for lang, sentences in texts for sentence in sentences)
    vocabulary = train_vocabulary(normalised, options, languages=(lang for lang, _ in texts))
    storage.write_bytes(storage.join(folder, VOCABULARY_FILE), vocabulary.to_bytes())
    say(f"vocabulary: {len(vocabulary)} pieces ({options.kind})")
    return {"pieces": len(vocabulary), "vocabulary": vocabulary.fingerprint}


def read_vocabulary(folder: str) -> Vocabulary:
    """The vocabulary of a folder or URL: one of ours, or the tokenizer of a Speech2Text checkpoint.

    Raises:
        DataError: there is none.
    """
    url = storage.join(folder, VOCABULARY_FILE)
    if storage.exists(url):
        return Vocabulary.from_bytes(storage.read_bytes(url), where=url)
    with storage.local_folder(folder) as local:
        return Vocabulary.load(local)
