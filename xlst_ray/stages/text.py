"""What is done with text before training: the sentences held out, the vocabulary, the check for leakage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlst_ray import storage
from xlst_ray.progress import say
from xlst_ray.shards.files import iter_texts
from xlst_ray.text.leakage import LeakageOptions, LeakageReport, find_overlap, sentence_key, sentence_keys
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
    """

    shards: str
    lang: str

    def texts(self) -> dict[str, Iterator[str]]:
        return {split: iter_texts(self.shards, split) for split in HELD_OUT_SPLITS}

    def keys(self, options: LeakageOptions) -> frozenset[str]:
        """Keys (`sentence_key`) of all held-out sentences."""
        return frozenset().union(
            *(sentence_keys(texts, self.lang, options.min_words) for texts in self.texts().values())
        )

    def check(self, training: Mapping[str, Iterable[str]], options: LeakageOptions) -> LeakageReport:
        """Count, print and judge the overlap of training texts of the target language.

        Raises:
            LeakageError: a test or dev sentence stands in a text that is neither to be dropped from nor allowed.
        """
        report = find_overlap(self.texts(), training, self.lang, options.min_words)
        say(report.table())
        report.refuse([*options.allow, *options.drop])
        return report


def write_held_out(held_out: HeldOut, options: LeakageOptions, folder: str) -> dict[str, Any]:
    """The file of held-out keys, which training reads to leave those sentences out."""
    keys = sorted(held_out.keys(options))
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
