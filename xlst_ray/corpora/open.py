"""From options to a corpus."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from xlst_ray.corpora.corpus import Corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import Utterance


def open_corpus(options: CorpusOptions) -> Corpus:
    """The corpus that the options name, cut to `limit` rows a split.

    Raises:
        ConfigError: it has no path.
        DataError: from its methods, where it is not what the options say.
    """
    corpus = _open(options)
    return corpus if options.limit is None else _Limited(corpus, options.limit)


def _open(options: CorpusOptions) -> Corpus:
    if options.reader == "demo":
        from xlst_ray.corpora.demo import Demo

        return Demo(options)
    if not options.path:
        raise ConfigError(f"the reader {options.reader} needs a path", hint="set the corpus' path to its folder")
    if options.reader == "fish_fillets":
        from xlst_ray.corpora.fish_fillets import FishFillets

        return FishFillets(options)
    if options.reader == "common_voice":
        from xlst_ray.corpora.common_voice import CommonVoice

        return CommonVoice(options)
    from xlst_ray.corpora.manifest import Manifest

    return Manifest(options)


@dataclass(frozen=True)
class _Limited:
    """The first rows of each split of a corpus."""

    corpus: Corpus
    limit: int

    def fingerprint(self) -> str:
        return f"{self.corpus.fingerprint()}-{self.limit}"

    def splits(self) -> tuple[str, ...]:
        return self.corpus.splits()

    def utterances(self, split: str) -> Iterator[Utterance]:
        return islice(self.corpus.utterances(split), self.limit)
