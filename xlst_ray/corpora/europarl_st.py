"""Europarl-ST: debates of the European Parliament in 9 languages, each with translations into the others.

The layout is that of release 1.1 (read by fairseq's examples/speech_to_text/prep_europarlst_data.py):
`<source>/audios/` with a file a speech, `<source>/<target>/<part>/segments.lst`, lines of a speech, start and end in
seconds, with `segments.<source>` and `segments.<target>` line by line beside it, and `speeches.lst` with
`speakers.lst`. Parts are `train`, `train-noisy`, `dev` and `test`. The audio is m4a, which needs the extra `av`; where
somebody has made `.wav` or `.flac` of it, that is read.

From mllp.upv.es/europarl-st, under CC BY-NC 4.0.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.must_c import seconds
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import read_together
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import Utterance

_EXTENSIONS: Final = ("wav", "flac", "m4a")


class EuroparlST:
    """Reader of a language pair. Speeches are the groups."""

    version = "europarl_st 1"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = (
        "path is the folder of a language pair, such as v1.1/en/de, with train/segments.lst in it and ../audios beside"
    )

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang
        self._above, _, self._target = options.path.rstrip("/").rpartition("/")
        if not self._above.endswith(f"/{options.lang}"):
            raise DataError(f"is no folder of a pair from {options.lang}", where=options.path, hint=self.layout)

    def has(self, part: str) -> bool:
        return storage.exists(self._file(part, "segments.lst"))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        of_speeches = read_together([self._file(part, "speeches.lst"), self._file(part, "speakers.lst")])
        speakers = {speech.strip(): speaker.strip() for _, (speech, speaker) in of_speeches}
        names = ("segments.lst", f"segments.{self._lang}", f"segments.{self._target}")
        extension = ""
        for where, lines in read_together([self._file(part, name) for name in names]):
            extension = extension or self._extension(lines[0].partition(" ")[0])
            yield understand(where, self._utterance, where, lines, split, speakers, extension)

    def _file(self, part: str, name: str) -> str:
        return storage.join(self._path, part, name)

    def _extension(self, speech: str) -> str:
        found = (name for name in _EXTENSIONS if storage.exists(self._audio(speech, name)))
        return next(found, _EXTENSIONS[-1])

    def _audio(self, speech: str, extension: str) -> str:
        return storage.join(self._above, "audios", f"{speech}.{extension}")

    def _utterance(
        self, where: str, lines: tuple[str, ...], split: str, speakers: Mapping[str, str], extension: str
    ) -> Utterance:
        segment, text, translation = (line.strip() for line in lines)
        values = segment.split()
        if len(values) != 3:
            raise DataError(f"is no speech with start and end but {segment!r}")
        speech, start, end = values[0], seconds(values[1]), seconds(values[2])
        if end <= start:
            raise DataError(f"ends at {end:g} s, before it starts at {start:g} s")
        return Utterance(
            id=f"{speech}_{where.rpartition(' ')[2]}",
            audio=self._audio(speech, extension),
            text=text,
            lang=self._lang,
            split=split,
            speaker=speakers.get(speech, ""),
            group=speech,
            offset=start,
            duration=end - start,
            translations={self._target: translation} if translation else {},
        )
