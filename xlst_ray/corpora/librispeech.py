"""LibriSpeech: a thousand hours of English audio books, and corpora in its layout (mini LibriSpeech).

The layout is that of the archives (openslr.org/12, README.TXT): `<part>/<speaker>/<chapter>/`, with
`<speaker>-<chapter>.trans.txt`, lines of an id and an upper-case transcript, beside `<id>.flac`. All training parts
that are there are read; `splits={train: train-clean-100, dev: dev-other, test: test-other}` chooses others. CC BY 4.0.
"""

from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance


class LibriSpeech:
    """Reader of the folder that the archives unpack to. Chapters are the groups."""

    version = "librispeech 1"
    parts: Final = {
        "train": "train-clean-100+train-clean-360+train-other-500",
        "dev": "dev-clean",
        "test": "test-clean",
    }
    layout = "path is the folder LibriSpeech, with train-clean-100/ or dev-clean/ in it"

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang

    def has(self, part: str) -> bool:
        return storage.exists(storage.join(self._path, part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        for url in storage.list_files(storage.join(self._path, part), ".trans.txt", recursive=True):
            for row, line in read_lines(url):
                yield understand(place(url, row), self._utterance, url, line, split)

    def _utterance(self, url: str, line: str, split: str) -> Utterance:
        name, blank, text = line.partition(" ")
        if not blank or name.count("-") != 2:
            raise DataError(f"is no id and transcript but {line!r}")
        speaker, chapter, _ = name.split("-")
        return Utterance(
            id=name,
            audio=storage.join(url.rpartition("/")[0], f"{name}.flac"),
            text=text,
            lang=self._lang,
            split=split,
            speaker=speaker,
            group=f"{speaker}-{chapter}",
        )
