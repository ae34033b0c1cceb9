"""VoxPopuli: transcribed speeches of the European Parliament in 16 languages.

The layout is what the publisher's script makes (github.com/facebookresearch/voxpopuli, voxpopuli/get_asr_data.py): in
`transcribed_data/<lang>/`, `asr_train.tsv`, `asr_dev.tsv` and `asr_test.tsv`, tab-separated with the header id,
raw_text, normalized_text, speaker_id, split, gender, and `<year>/<id>.ogg`. Many rows have no raw text: then the
normalised one stands.

`python -m voxpopuli.download_audios --subset asr`, then `python -m voxpopuli.get_asr_data --lang nl`. CC0.
"""

from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import Columns
from xlst_ray.shards.schema import Utterance

_NEEDED: Final = ("id", "raw_text", "normalized_text", "speaker_id")


class VoxPopuli:
    """Reader of one language. Speakers are the groups."""

    version = "voxpopuli 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = "path is the folder of one language, such as voxpopuli/transcribed_data/nl, with asr_train.tsv in it"

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang

    def has(self, part: str) -> bool:
        return storage.exists(self._index(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        columns = Columns(self._index(part), _NEEDED, "voxpopuli.get_asr_data writes it")
        for where, line in columns.rows():
            yield understand(where, self._utterance, columns, line, split)

    def _index(self, part: str) -> str:
        return storage.join(self._path, f"asr_{part}.tsv")

    def _utterance(self, columns: Columns, line: str, split: str) -> Utterance:
        name, raw, normalised, speaker = columns.of(line)
        return Utterance(
            id=name,
            audio=storage.join(self._path, name[:4], f"{name}.ogg"),
            text=raw or normalised,
            lang=self._lang,
            split=split,
            speaker=speaker,
            group=speaker,
        )
