"""WebDataset: tars in which consecutive members with the same key are a sample.

The layout is that of github.com/webdataset/webdataset, README: a member's key is its name up to the first dot of the
last path part, the rest is its kind. A sample has one sound file (flac, wav, mp3, ogg, opus, m4a, webm) and its text
in `.txt` or in `.json`, there under one of the names text, sentence, transcription ... or `columns={text: NAME}`, with
speaker and translations beside it. Tars are `train-000000.tar` and so on in a folder, or lie in a folder of the part's
name; they must not be packed (.tar.gz), so that a recording is read without all before it.
"""

import tarfile
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.corpora.columns import Names, label_cell, text_cell, translations_of
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.fields import parse_object
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.recordings import in_tar
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_AUDIO: Final = ("flac", "wav", "mp3", "ogg", "opus", "m4a", "webm")


class WebDataset:
    """Reader of a folder of tars. Speakers are the groups, unless `columns` names some. Ids are the keys."""

    version = "webdataset 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = "path is a folder with train-000000.tar (or train/*.tar), not packed: unpack .tar.gz with gunzip"

    def __init__(self, options: CorpusOptions) -> None:
        self._options = options

    def has(self, part: str) -> bool:
        return bool(self._files(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        for url in self._files(part):
            for key, members in _samples(url):
                yield understand(f"{url}, {key}", self._utterance, url, key, members, split)

    def _files(self, part: str) -> list[str]:
        files = storage.list_files(self._options.path, ".tar")
        named = [url for url in files if url.rpartition("/")[2].startswith((f"{part}-", f"{part}_", f"{part}."))]
        return named or storage.list_files(storage.join(self._options.path, part), ".tar")

    def _utterance(self, url: str, key: str, members: Mapping[str, "_Member"], split: str) -> Utterance:
        audio = [kind for kind in members if kind in _AUDIO]
        if len(audio) != 1:
            raise DataError(f"has {len(audio) or 'no'} sound files: {', '.join(members)}")
        fields: dict[str, Any] = {}
        if "json" in members:
            fields = parse_object(members["json"].text)
        if "txt" in members:
            fields = {**fields, "text": members["txt"].text.strip()}
        names = Names(self._options, list(_paths(fields)), f"{url}, {key}", "text")
        found = members[audio[0]]
        speaker = label_cell(fields, names.speaker)
        return Utterance(
            id=key,
            audio=in_tar(url, f"{key.rpartition('/')[2]}.{audio[0]}", found.start, found.size),
            text=text_cell(fields, names.text),
            lang=self._options.lang,
            split=split,
            speaker=speaker,
            group=label_cell(fields, names.group) or speaker,
            translations=translations_of(fields, names),
        )


class _Member:
    def __init__(self, start: int, size: int, text: str) -> None:
        self.start, self.size, self.text = start, size, text


def _samples(url: str) -> Iterator[tuple[str, dict[str, _Member]]]:
    """The samples of a tar: their keys, and their members by kind. Sound is passed over, not read."""
    with storage.open_input(url) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for key, members in groupby(_files(archive), lambda member: _key(member.name)):
                    yield key, {_kind(member.name): _read(archive, member) for member in members}
        except tarfile.TarError as error:
            raise DataError(
                f"is no tar, or is cut off ({error})", where=url, hint="fetch it again, unpack .gz"
            ) from None


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # it would hold all of them
        if member.isfile():
            yield member


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    text = ""
    if _kind(member.name) in ("txt", "json") and (file := archive.extractfile(member)) is not None:
        text = file.read().decode(errors="surrogateescape")
    return _Member(member.offset_data, member.size, text)


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _kind(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _paths(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
