"""MuST-C: TED talks in English, translated into 8 languages (14 from release 1.2 on).

The layout is that of the releases (read by fairseq's examples/speech_to_text/prep_mustc_data.py): a folder for each
pair, such as `en-de`, with `data/<part>/txt/<part>.yaml` and `<part>.en`, `<part>.de` beside it, line by line the same
segments, and `data/<part>/wav/<talk>.wav`. The YAML is a list with one segment a line, `- {duration: 3.5, offset:
16.1, rW: 9, uW: 0, speaker_id: spk.1, wav: ted_1.wav}`, and a quarter of a million lines long: it is read as lines.
Parts are `train`, `dev`, `tst-COMMON` and `tst-HE`. From mt.fbk.eu/must-c, under CC BY-NC-ND 4.0.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import read_together
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_PAIR: Final = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")
_SEGMENT: Final = re.compile(r"- *\{(.*)\} *")
_FIELD: Final = re.compile(r"(\w+): *([^,{}]*[^,{} ])")


class MustC:
    """Reader of the folder of a language pair, source first. Talks are the groups."""

    version = "must_c 1"
    parts: ClassVar = {"train": "train", "dev": "dev", "test": "tst-COMMON"}
    layout = "path is the folder of a language pair, such as MUSTC_v1.0/en-de, with data/train/txt/train.yaml in it"
    extension = "wav"

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang
        pair = _PAIR.fullmatch(options.path.rstrip("/").rpartition("/")[2])
        if pair is None or pair[1] != options.lang:
            raise DataError(
                f"is no folder of a language pair from {options.lang}", where=options.path, hint=self.layout
            )
        self._target = "" if pair[1] == pair[2] else pair[2]

    def has(self, part: str) -> bool:
        return storage.exists(self._text(part, "yaml"))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        endings = ["yaml", self._lang, *([self._target] if self._target else [])]
        for where, lines in read_together([self._text(part, ending) for ending in endings]):
            yield understand(where, self._utterance, where, lines, part, split)

    def _text(self, part: str, ending: str) -> str:
        return storage.join(self._path, "data", part, "txt", f"{part}.{ending}")

    def _utterance(self, where: str, lines: tuple[str, ...], part: str, split: str) -> Utterance:
        segment = _read_segment(lines[0])
        talk = segment["wav"].rpartition(".")[0]
        return Utterance(
            id=f"{talk}_{where.rpartition(' ')[2]}",
            audio=storage.join(self._path, "data", part, "wav", f"{talk}.{self.extension}"),
            text=lines[1].strip(),
            lang=self._lang,
            split=split,
            speaker=segment["speaker_id"],
            group=talk,
            offset=seconds(segment["offset"]),
            duration=seconds(segment["duration"]),
            translations={self._target: lines[2].strip()} if self._target and lines[2].strip() else {},
        )


def _read_segment(line: str) -> dict[str, str]:
    match = _SEGMENT.fullmatch(line)
    fields = dict(_FIELD.findall(match[1])) if match is not None else {}
    if lacking := {"duration", "offset", "speaker_id", "wav"} - fields.keys():
        raise DataError(f"is no segment on a line of its own: it has no {', '.join(sorted(lacking))}")
    return fields


def seconds(text: str) -> float:
    """A time in an index file. Raises `DataError` where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(f"{text!r} is no number of seconds")
    return value
