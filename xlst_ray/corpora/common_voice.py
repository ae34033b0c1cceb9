"""Mozilla Common Voice, a release folder of one locale as it unpacks: `<split>.tsv` beside `clips/`.

The layout is that of the release notes (github.com/common-voice/cv-dataset, README.md) and of the releases themselves:
tab-separated, with a header; `client_id` (a hash of the speaker), `path` (of the clip, in `clips/`), `sentence`, votes
and demographics, whose columns differ from release to release. Quotation marks are text, not quoting.
"""

import hashlib
from collections.abc import Iterator

from xlst_ray import storage
from xlst_ray.corpora.corpus import content_hash, once_each, place, read_lines
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS, Utterance

_COLUMNS = ("client_id", "path", "sentence")


class CommonVoice:
    """Reader of a release folder. Speakers are the groups."""

    def __init__(self, options: CorpusOptions) -> None:
        self._options = options
        self._names = options.splits

    def fingerprint(self) -> str:
        recordings = (row.audio for split in self.splits() for _, row in self._rows(split))
        return content_hash("common_voice 2", [self._url(split) for split in self.splits()], recordings)

    def splits(self) -> tuple[str, ...]:
        wanted = tuple(split for split in SPLITS if split in self._names) or SPLITS
        found = tuple(split for split in wanted if storage.exists(self._url(split)))
        if not found or (self._names and found != wanted):
            lacking = [self._url(split) for split in wanted if split not in found]
            raise DataError(
                f"is no Common Voice release of one locale: it has no {', '.join(lacking)}",
                where=self._options.path,
                hint="path is the folder that holds clips/ and train.tsv, such as cv-corpus-17.0-2024-03-15/nl",
            )
        return found

    def utterances(self, split: str) -> Iterator[Utterance]:
        return once_each(lambda: self._rows(split))

    def _url(self, split: str) -> str:
        return storage.join(self._options.path, f"{self._names.get(split, split)}.tsv")

    def _rows(self, split: str) -> Iterator[tuple[str, Utterance]]:
        url = self._url(split)
        lines = read_lines(url)
        header = _header(url, next(lines, (1, ""))[1])
        for row, line in lines:
            values = line.split("\t")
            if len(values) != len(header):
                raise DataError(f"has {len(values)} columns where the header has {len(header)}", where=place(url, row))
            speaker, path, sentence = (values[header.index(name)] for name in _COLUMNS)
            yield place(url, row), self._utterance(split, speaker, path, sentence)

    def _utterance(self, split: str, client_id: str, path: str, sentence: str) -> Utterance:
        # The first releases name clips without the extension.
        clip = path if "." in path.rpartition("/")[2] else f"{path}.mp3"
        speaker = hashlib.sha256(client_id.encode()).hexdigest()[:12] if client_id else ""
        return Utterance(
            id=clip.rpartition(".")[0],
            audio=storage.join(self._options.path, "clips", clip),
            text=sentence,
            lang=self._options.lang,
            split=split,
            speaker=speaker,
            group=speaker,
        )


def _header(url: str, line: str) -> list[str]:
    header = line.split("\t")
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"has no column {', '.join(missing)}; it has {', '.join(header)}",
            where=place(url, 1),
            hint=f"a Common Voice index is tab-separated, and its first line names {', '.join(_COLUMNS)}",
        )
    return header
