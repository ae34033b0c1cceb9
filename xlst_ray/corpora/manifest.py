"""A corpus as JSON lines, as NeMo writes its manifests: one utterance a line.

Fields: `audio` or `audio_filepath` (a path relative to the manifest, or a URL) and `text`; optionally `id`, `lang`,
`speaker`, `group`, `offset` and `duration` (seconds), `translations` (texts by language code), `split`. Further fields
are ignored. Either a folder of `train.jsonl`, `dev.jsonl`, `test.jsonl`, or one file whose rows name their split.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from xlst_ray import storage
from xlst_ray.corpora.corpus import content_hash, once_each, place, read_lines
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS, Utterance

_FIELDS_HINT = "each line is an object with at least audio (or audio_filepath) and text"


class Manifest:
    """Reader of JSONL manifests. Rows in another language than the corpus' are left out."""

    def __init__(self, options: CorpusOptions) -> None:
        self._options = options
        self._names = options.splits
        self._single = options.path.endswith((".jsonl", ".json"))

    def fingerprint(self) -> str:
        urls = [self._options.path] if self._single else [self._url(split) for split in self.splits()]
        recordings = (row.audio for split in self.splits() for _, row in self._rows(split))
        return content_hash("manifest 2", urls, recordings)

    def splits(self) -> tuple[str, ...]:
        if self._names:
            found = {split for split in self._names if self._single or storage.exists(self._url(split))}
        elif self._single:
            found = {_split_of(fields, where) for _, where, fields in _read_objects(self._options.path)}
        else:
            found = {split for split in SPLITS if storage.exists(self._url(split))}
        lacking = sorted(self._names.keys() - found)
        if lacking or not found:
            raise DataError(
                f"no such manifest: {', '.join(self._url(split) for split in lacking or SPLITS)}",
                where=self._options.path,
                hint="name the files of train, dev and test in splits, or give one .jsonl file with a field split",
            )
        return tuple(split for split in SPLITS if split in found)

    def utterances(self, split: str) -> Iterator[Utterance]:
        """The rows of a split. Raises `DataError` for rows that are malformed, and where none is in the language."""
        empty = True
        for utterance in once_each(lambda: self._rows(split)):
            empty = False
            yield utterance
        if empty:
            languages = sorted({str(fields.get("lang")) for _, _, fields in _read_objects(self._url(split))})
            raise DataError(
                f"has no rows of the split {split} in the language {self._options.lang}",
                where=self._url(split),
                hint=f"the field lang says: {', '.join(languages)}" if languages else "the file is empty",
            )

    def _url(self, split: str) -> str:
        if self._single:
            return self._options.path
        return storage.join(self._options.path, self._names.get(split, f"{split}.jsonl"))

    def _rows(self, split: str) -> Iterator[tuple[str, Utterance]]:
        url = self._url(split)
        folder, slash, name = url.rpartition("/")
        stem = name.rpartition(".")[0]
        for row, where, fields in _read_objects(url):
            if self._single:
                own = fields.get("split") if self._names else _split_of(fields, where)
                if own != self._names.get(split, split):
                    continue
            if fields.get("lang", self._options.lang) == self._options.lang:
                yield (
                    where,
                    _utterance(fields, where, split, self._options.lang, f"{stem}-{row}", folder if slash else "."),
                )


def _read_objects(url: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """The objects of a JSONL file with their rows and places."""
    for row, line in read_lines(url):
        where = place(url, row)
        try:
            fields = json.loads(line)
            json.dumps(fields, ensure_ascii=False).encode()  # \ud800 and the like are JSON but no text
        except ValueError as error:
            raise DataError(f"is not a JSON object ({error})", where=where, hint=_FIELDS_HINT) from None
        if not isinstance(fields, dict):
            raise DataError("is not a JSON object", where=where, hint=_FIELDS_HINT)
        yield row, where, fields


def _split_of(fields: Mapping[str, Any], where: str) -> str:
    """The row's own split where the options do not translate names."""
    split = fields.get("split")
    if split not in SPLITS:
        raise DataError(
            "has no field split" if split is None else f"has the split {split!r}",
            where=where,
            hint="rows of a single manifest name train, dev or test; map other names with splits={dev: validation}",
        )
    return str(split)


def _utterance(fields: Mapping[str, Any], where: str, split: str, lang: str, default_id: str, folder: str) -> Utterance:
    audio = _text(fields, "audio" if "audio" in fields else "audio_filepath", where)
    if not audio.startswith("/") and "://" not in audio:
        audio = storage.join(folder, audio)
    speaker = _label(fields, "speaker", where)
    return Utterance(
        id=_label(fields, "id", where) or default_id,
        audio=audio,
        text=_text(fields, "text", where),
        lang=lang,
        split=split,
        speaker=speaker,
        group=_label(fields, "group", where) or speaker,
        offset=_seconds(fields, "offset", where) or 0.0,
        duration=_seconds(fields, "duration", where),
        translations=_translations(fields, where),
    )


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    if name not in fields:
        raise DataError(f"has no field {name}; it has {', '.join(fields) or 'none'}", where=where, hint=_FIELDS_HINT)
    value = fields[name]
    if not isinstance(value, str):
        raise DataError(f"{name} is no text but {value!r}", where=where)
    return value


def _label(fields: Mapping[str, Any], name: str, where: str) -> str:
    """An id that may be written as a number; empty where it is absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, (str, int)):
        raise DataError(f"{name} is no text but {value!r}", where=where)
    return "" if value is None else str(value)


def _seconds(fields: Mapping[str, Any], name: str, where: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise DataError(f"{name} is no number of seconds but {value!r}", where=where)
    return float(value)


def _translations(fields: Mapping[str, Any], where: str) -> dict[str, str]:
    value = fields.get("translations") or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise DataError(f"translations are no texts by language code but {value!r}", where=where)
    return value
