"""Multilingual LibriSpeech: audio books in German, Dutch, French, Spanish, Italian, Portuguese, Polish and English.

The layout is that of the archives (openslr.org/94, read by lhotse/recipes/mls.py): `<part>/transcripts.txt`, lines of
an id `<speaker>_<book>_<number>` and a transcript with a tab between, and `<part>/audio/<speaker>/<book>/<id>.flac`,
or `.opus` in the archives whose names end in `_opus`. CC BY 4.0.
"""

from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance


class MLS:
    """Reader of the folder of one language. Books, each read by one speaker, are the groups."""

    version = "mls 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = "path is the folder of one language, such as mls_dutch or mls_dutch_opus, with train/transcripts.txt in it"

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang
        self._extension = "opus" if options.path.rstrip("/").endswith("_opus") else "flac"

    def has(self, part: str) -> bool:
        return storage.exists(self._index(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        url = self._index(part)
        for row, line in read_lines(url):
            yield understand(place(url, row), self._utterance, line, part, split)

    def _index(self, part: str) -> str:
        return storage.join(self._path, part, "transcripts.txt")

    def _utterance(self, line: str, part: str, split: str) -> Utterance:
        name, tab, text = line.partition("\t")
        if not tab or name.count("_") != 2:
            raise DataError(f"is no id and transcript with a tab between but {line!r}")
        speaker, book, _ = name.split("_")
        return Utterance(
            id=name,
            audio=storage.join(self._path, part, "audio", speaker, book, f"{name}.{self._extension}"),
            text=text,
            lang=self._lang,
            split=split,
            speaker=speaker,
            group=f"{speaker}_{book}",
        )
