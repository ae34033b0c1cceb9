"""`audiofolder` of Hugging Face's datasets: sound files, and a table of what is said in them.

The layout is that of huggingface.co/docs/datasets, "Create an audio dataset": `metadata.csv` or `metadata.jsonl` with
`file_name`, relative to it, and columns of one's own, in each part's folder (`train/`, `validation/`, `test/`) or once
above them; in the latter a row belongs to the part whose folder its file lies in, and to `train` where it lies in
none. The transcript is the first of the columns text, sentence, transcription ..., or `columns={text: NAME}`.
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.corpora.columns import Names, label_cell, text_cell, translations_of
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.fields import parse_object
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_TABLES: Final = ("metadata.csv", "metadata.jsonl")
_FILE: Final = "file_name"


class HFAudioFolder:
    """Reader of such a folder. Speakers are the groups, unless `columns` names some. Ids are the files' names."""

    version = "hf_audiofolder 1"
    parts: Final = {"train": "train", "dev": "validation", "test": "test"}
    layout = "path is a folder with metadata.csv or metadata.jsonl in it or in its train/, validation/, test/"

    def __init__(self, options: CorpusOptions) -> None:
        self._options = options
        names = (options.splits or self.parts).values()
        self._parts = {name for several in names for name in several.split("+")}

    def has(self, part: str) -> bool:
        if self._table(part):
            return True
        return bool(self._table("")) and (part == "train" or storage.exists(storage.join(self._options.path, part)))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        own, above = self._table(part), self._table("")
        url = own or above
        folder = url.rpartition("/")[0]
        names: Names | None = None
        for where, fields in _read(url):
            if isinstance(fields, DataError):
                if own or part == "train":
                    yield Row(where, None, detail=fields.what)
            elif own or self._part_of(fields) == part:
                names = names or Names(self._options, list(fields), url, "text")
                yield understand(where, self._utterance, folder, fields, names, split)

    def _table(self, part: str) -> str:
        urls = (storage.join(self._options.path, *([part] if part else []), name) for name in _TABLES)
        return next((url for url in urls if storage.exists(url)), "")

    def _part_of(self, fields: Mapping[str, Any]) -> str:
        first = str(fields.get(_FILE)).partition("/")[0]
        return first if first in self._parts else "train"

    def _utterance(self, folder: str, fields: Mapping[str, Any], names: Names, split: str) -> Utterance:
        file = text_cell(fields, _FILE)
        speaker = label_cell(fields, names.speaker)
        return Utterance(
            id=label_cell(fields, self._options.columns.get("id", "")) or file.rpartition(".")[0] or file,
            audio=storage.join(folder, file),
            text=text_cell(fields, names.text),
            lang=self._options.lang,
            split=split,
            speaker=speaker,
            group=label_cell(fields, names.group) or speaker,
            translations=translations_of(fields, names),
        )


def _read(url: str) -> Iterator[tuple[str, Mapping[str, Any] | DataError]]:
    if url.endswith(".jsonl"):
        for row, line in read_lines(url):
            try:
                yield place(url, row), parse_object(line)
            except DataError as error:
                yield place(url, row), error
        return
    # A quoted cell may go over several lines.
    table = csv.reader(f"{line}\n" for _, line in read_lines(url, blank=True))
    header = next(table, [])
    if _FILE not in header:
        raise DataError(f"has no column {_FILE}; it has {', '.join(header) or 'none'}", where=url)
    for values in table:
        where = place(url, table.line_num)
        if len(values) == len(header):
            yield where, dict(zip(header, values, strict=True))
        elif values:
            yield where, DataError(f"has {len(values)} columns where the header has {len(header)}")
