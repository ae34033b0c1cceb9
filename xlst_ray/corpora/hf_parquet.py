"""Parquet as on the Hugging Face Hub: a column with the audio files' bytes beside columns of text.

The layout is that of `datasets` (huggingface.co/docs/datasets, "Create an audio dataset"; the feature Audio is a
struct of `bytes` and `path`): files such as `train-00000-of-00004.parquet` in a folder, in its `data/`, or in a folder
of the part's name. The transcript is the first of the columns text, sentence, transcription ..., or `columns={text:
NAME}`; translations are columns too, such as `translations={en: translation}`, or fields of a struct,
`translations={en: translation.en}`.

Where and under which licence is for each data set's card to say. `hf download --repo-type dataset NAME` fetches one.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

import pyarrow as pa

from xlst_ray import storage
from xlst_ray.corpora.columns import Names, label_cell, text_cell, translations_of
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.recordings import in_parquet
from xlst_ray.corpora.tables import place
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_ROWS: Final = 1024  # that are read at once, without their audio


class HFParquet:
    """Reader of a folder of Parquet files. Speakers are the groups, unless `columns` names some.

    A row's id is the name of its audio file, or else that of the Parquet file with the row's number.
    """

    version = "hf_parquet 1"
    parts: Final = {"train": "train", "dev": "validation", "test": "test"}
    layout = "path is a folder with train-00000-of-00001.parquet (or data/train-..., or train/...)"

    def __init__(self, options: CorpusOptions) -> None:
        self._options = options

    def has(self, part: str) -> bool:
        return bool(self._files(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        for url in self._files(part):
            with storage.open_parquet(url) as file:
                names = Names(self._options, list(_leaves(file.schema_arrow)), url, "text")
                if f"{names.audio}.bytes" not in _leaves(file.schema_arrow):
                    raise DataError(
                        f"has no column of audio files: {names.audio or 'audio'} is no struct with a field bytes",
                        where=url,
                        hint="columns={audio: NAME} names the column",
                    )
                numbers = count(1)
                for group in range(file.num_row_groups):
                    for index, row in enumerate(_read_group(file, group, names)):
                        number = next(numbers)
                        yield understand(
                            place(url, number), self._utterance, url, group, index, number, row, names, split
                        )

    def _files(self, part: str) -> list[str]:
        folders = (self._options.path, storage.join(self._options.path, "data"))
        named = [url for folder in folders for url in storage.list_files(folder, ".parquet")]
        files = [url for url in named if url.rpartition("/")[2].startswith((f"{part}-", f"{part}."))]
        return files or storage.list_files(storage.join(self._options.path, part), ".parquet")

    def _utterance(
        self, url: str, group: int, index: int, number: int, row: Mapping[str, Any], names: Names, split: str
    ) -> Utterance:
        file = (row[names.audio].get("path") or "").rpartition("/")[2]
        speaker = label_cell(row, names.speaker)
        return Utterance(
            id=label_cell(row, self._options.columns.get("id", ""))
            or file.rpartition(".")[0]
            or f"{url.rpartition('/')[2].removesuffix('.parquet')}-{number}",
            audio=in_parquet(url, names.audio, file, group, index),
            text=text_cell(row, names.text),
            lang=self._options.lang,
            split=split,
            speaker=speaker,
            group=label_cell(row, names.group) or speaker,
            translations=translations_of(row, names),
        )


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Columns, and fields of structs as `column.field`."""
    for field in schema:
        yield field.name
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{field.type.field(i).name}" for i in range(field.type.num_fields))


def _read_group(file: Any, group: int, names: Names) -> Iterator[Mapping[str, Any]]:
    has_path = f"{names.audio}.path" in _leaves(file.schema_arrow)
    columns = [*names.of_text, *([f"{names.audio}.path"] if has_path else [])]
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
        for row in batch.to_pylist():
            yield row if has_path else {**row, names.audio: {}}
