"""FLEURS: sentences of FLoRes read aloud in 102 languages, about ten hours of each.

The layout is that of the publisher's repository (huggingface.co/datasets/google/fleurs, its loader fleurs.py): below
`data/`, a folder for each configuration such as `nl_nl`, with `train.tsv`, `dev.tsv`, `test.tsv` and archives
`audio/<part>.tar.gz`, which unpack to `audio/<part>/<file>.wav`. The TSVs have no header: sentence id, file,
transcript as written, transcript in lower case without punctuation, its characters, number of samples, gender. Several
people read the same sentence; nobody says who. Sentences are the groups.

Other configurations have the same sentences by the same ids: `translations={en: en_us}` takes them from the folder
beside.

CC BY 4.0. The copy of the data set in Parquet is read by `hf_parquet`.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_COLUMNS: Final = 7


class Fleurs:
    """Reader of the folder of one configuration."""

    version = "fleurs 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = (
        "path is the folder of a configuration, such as fleurs/data/nl_nl, with train.tsv and audio/train/ unpacked"
    )

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang
        beside = options.path.rstrip("/").rpartition("/")[0]
        self._others = {lang: storage.join(beside, name) for lang, name in options.translations.items()}

    def has(self, part: str) -> bool:
        return storage.exists(_index(self._path, part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        self._refuse_packed(part)
        translations = {lang: _sentences(_index(folder, part)) for lang, folder in self._others.items()}
        url = _index(self._path, part)
        for row, line in read_lines(url):
            yield understand(place(url, row), self._utterance, line, part, split, translations)

    def _refuse_packed(self, part: str) -> None:
        audio = storage.join(self._path, "audio")
        archive = storage.join(audio, f"{part}.tar.gz")
        if storage.exists(archive) and not storage.exists(storage.join(audio, part)):
            raise DataError("is not unpacked", where=archive, hint=f"tar -xzf {archive} -C {audio}")

    def _utterance(self, line: str, part: str, split: str, translations: Mapping[str, Mapping[str, str]]) -> Utterance:
        sentence, file, text = _columns(line)
        return Utterance(
            id=file.rpartition(".")[0],
            audio=storage.join(self._path, "audio", part, file),
            text=text,
            lang=self._lang,
            split=split,
            group=sentence,
            translations={lang: texts[sentence] for lang, texts in translations.items() if sentence in texts},
        )


def _index(folder: str, part: str) -> str:
    return storage.join(folder, f"{part}.tsv")


def _columns(line: str) -> list[str]:
    values = line.split("\t")
    if len(values) != _COLUMNS:
        raise DataError(f"has {len(values)} columns where FLEURS has {_COLUMNS}")
    return values[:3]


def _sentences(url: str) -> dict[str, str]:
    """The text of each sentence by its id: some thousands."""
    texts = {}
    for row, line in read_lines(url):
        try:
            sentence, _, text = _columns(line)
        except DataError as error:
            raise DataError(error.what, where=place(url, row), hint="fetch the file again") from None
        texts[sentence] = text
    return texts
