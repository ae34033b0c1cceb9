"""Cuts of Lhotse: JSON lines, packed or not, of one language.

The layout is that of lhotse's `CutSet.to_file` (lhotse.readthedocs.io, "Cuts" and "Representing a corpus"): a line is
a `MonoCut` with `start` and `duration` in seconds, its `recording` with `sources`, and `supervisions` with times
relative to the cut, `text` and `speaker`. Every supervision is an utterance. Parts are files such as
`cuts_train.jsonl.gz`; `splits={train: librispeech_cuts_train-clean-100.jsonl.gz}` names others. Recordings are files
or URLs, relative to the working folder as in Lhotse. Rejected with their reason: other kinds of cut (mixed, padding,
several channels), recordings that are made by a command or lie in memory or in Shar, and cuts of one channel out of
several, which would be heard all at once.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.config import absolute
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.fields import label, number, parse_object, text
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_ENDINGS: Final = (".jsonl.gz", ".jsonl")


class Lhotse:
    """Reader of a folder of cut files. Speakers are the groups."""

    version = "lhotse 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = "path is a folder with cuts_train.jsonl.gz, or splits={train: NAME.jsonl.gz} names the files in it"

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang

    def has(self, part: str) -> bool:
        return self._find(part) is not None

    def rows(self, part: str, split: str) -> Iterator[Row]:
        url = self._find(part)
        assert url is not None, "the part was there"
        for row, line in read_lines(url):
            where = place(url, row)
            try:
                cut = parse_object(line)
                supervisions = _supervisions(cut)
                audio = _audio(cut)
            except DataError as error:
                yield Row(where, None, detail=error.what)
                continue
            alone = len(supervisions) == 1
            for supervision in supervisions:
                yield understand(where, self._utterance, cut, supervision, alone, audio, split)

    def _find(self, part: str) -> str | None:
        names = [part] if part.endswith(_ENDINGS) else [f"cuts_{part}{ending}" for ending in _ENDINGS]
        urls = (storage.join(self._path, name) for name in names)
        return next((url for url in urls if storage.exists(url)), None)

    def _utterance(
        self, cut: Mapping[str, Any], supervision: Mapping[str, Any], alone: bool, audio: str, split: str
    ) -> Utterance:
        speaker = label(supervision, "speaker")
        # A supervision may begin before its cut or end after it; what the cut holds is heard.
        start = max(0.0, number(supervision, "start", least=-float("inf")))
        end = min(
            number(cut, "duration"), number(supervision, "start", least=-float("inf")) + number(supervision, "duration")
        )
        if end <= start:
            raise DataError("its supervision lies outside of the cut")
        return Utterance(
            id=label(cut if alone else supervision, "id"),
            audio=audio,
            text=text(supervision, "text"),
            lang=self._lang,
            split=split,
            speaker=speaker,
            group=speaker,
            offset=number(cut, "start") + start,
            duration=end - start,
        )


def _supervisions(cut: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if (kind := cut.get("type", "MonoCut")) != "MonoCut":
        raise DataError(f"is a {kind}, not a MonoCut")
    found = cut.get("supervisions")
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise DataError("has no supervisions")
    return found


def _audio(cut: Mapping[str, Any]) -> str:
    """Where the recording of a cut lies."""
    try:
        ((kind, source, channels),) = (
            (source["type"], source["source"], source["channels"]) for source in cut["recording"]["sources"]
        )
    except (KeyError, TypeError, ValueError):
        raise DataError("has no recording of a single source") from None
    if kind not in ("file", "url") or not isinstance(source, str):
        raise DataError(f"has a recording of the type {kind}, not a file")
    if channels != [cut.get("channel", 0)]:
        raise DataError(f"is one of the channels {json.dumps(channels)}: split them into files first")
    return absolute(source)
