"""CoVoST 2: translations of Common Voice sentences, into English from 21 languages and from English into 15.

The layout is that of the publisher's scripts (github.com/facebookresearch/covost, get_covost_splits.py) and of
fairseq's (examples/speech_to_text/prep_covost_data.py): `covost_v2.<source>_<target>.tsv`, tab-separated with the
columns `path`, `translation` and `split`, over the `validated.tsv` and `clips/` of Common Voice 4,
cv-corpus-4-2019-12-10. Its training part is larger than Common Voice's own: `train` and `train_covost`. A backslash
escapes.

TSVs from dl.fbaipublicfiles.com/covost, Common Voice 4 from commonvoice.mozilla.org/datasets; both CC0.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from xlst_ray import storage
from xlst_ray.corpora.common_voice import INDEX_HINT, clip_utterance
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import Columns
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import Utterance

_ESCAPE: Final = re.compile(r"\\(.)")
_FOR_BAD_ROWS: Final = "train"  # a row that cannot be read names no part
_HINT: Final = "CoVoST's TSVs have the columns path, translation, split"


class CoVoST:
    """Reader of a Common Voice 4 folder with CoVoST's TSVs, of which `translations` names one or more.

    A part is every clip that the first TSV assigns to it; its translations (290,000 at most) are held in memory, the
    transcripts are not. Speakers are the groups.

    Raises:
        ConfigError: no TSV is named.
    """

    version = "covost 1"
    parts: Final = {"train": "train+train_covost", "dev": "dev", "test": "test"}
    layout = (
        "path is the folder of Common Voice 4 with clips/ and validated.tsv; translations={en: covost_v2.fr_en.tsv}"
    )

    def __init__(self, options: CorpusOptions) -> None:
        if not options.translations:
            raise ConfigError(
                "the reader covost needs translations", hint="such as translations={en: covost_v2.fr_en.tsv}"
            )
        self._path, self._lang = options.path, options.lang
        self._tables = {
            lang: name if name.startswith("/") or "://" in name else storage.join(self._path, name)
            for lang, name in options.translations.items()
        }

    def has(self, part: str) -> bool:
        first = next(iter(self._tables.values()))
        return storage.exists(self._validated) and storage.exists(first) and part in _parts_of(first)

    def rows(self, part: str, split: str) -> Iterator[Row]:
        translations: dict[str, dict[str, _Text]] = {}
        for lang, url in self._tables.items():
            translations[lang] = {}
            yield from _read(url, part, translations[lang])
        assigned = next(iter(translations.values()))
        unseen = set(assigned)
        columns = Columns(self._validated, ("client_id", "path", "sentence"), INDEX_HINT)
        for where, line in columns.rows():
            path = line.split("\t")[columns.names.index("path")] if columns.fits(line) else None
            unseen.discard(path)
            if path in assigned or (path is None and part == _FOR_BAD_ROWS):
                yield understand(where, self._utterance, columns, line, split, translations)
        for path in sorted(unseen):
            yield Row(assigned[path].where, None, detail=f"{path} is not in validated.tsv")

    @property
    def _validated(self) -> str:
        return storage.join(self._path, "validated.tsv")

    def _utterance(
        self, columns: Columns, line: str, split: str, translations: Mapping[str, Mapping[str, "_Text"]]
    ) -> Utterance:
        speaker, path, sentence = columns.of(line)
        utterance = clip_utterance(self._path, speaker, path, _unescaped(sentence), self._lang, split)
        known = {lang: texts[path].text for lang, texts in translations.items() if path in texts}
        return replace(utterance, translations={lang: text for lang, text in known.items() if text})


class _Text(NamedTuple):
    where: str
    text: str


def _read(url: str, part: str, texts: dict[str, _Text]) -> Iterator[Row]:
    """Put the translations of a part into `texts`, by clip; yields the rows that cannot be understood."""
    columns = Columns(url, ("path", "translation", "split"), _HINT)
    for where, line in columns.rows():
        if columns.fits(line):
            path, translation, own = columns.of(line)
            if own == part:
                texts[path] = _Text(where, _unescaped(translation))
        elif part == _FOR_BAD_ROWS:
            yield Row(where, None, detail="has another number of columns than the header")


def _parts_of(url: str) -> set[str]:
    columns = Columns(url, ("split",), _HINT)
    return {columns.of(line)[0] for _, line in columns.rows() if columns.fits(line)}


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)
