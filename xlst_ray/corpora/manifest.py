"""A corpus as JSON lines, as NeMo writes its manifests: one utterance a line.

Fields: `audio` or `audio_filepath` (a path relative to the manifest, or a URL) and `text`; optionally `id`, `lang`,
`speaker`, `group`, `offset` and `duration` (seconds), `translations` (texts by language code), `split`. Further fields
are not read, and told unless they are NeMo's; rows in another `lang` belong to another corpus, and how many is told.
Either a folder of `train.jsonl`, `dev.jsonl`, `test.jsonl` (NeMo's `train_manifest.json` by
`splits={train: train_manifest.json}`), or one file whose rows name their split. NeMo's fields are those of
docs.nvidia.com/nemo/speech, "Datasets".
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.fields import label, number, parse_object, text, texts_by_language
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import place, read_lines
from xlst_ray.errors import DataError
from xlst_ray.progress import say
from xlst_ray.shards.schema import SPLITS, Utterance

_tell = cache(say)  # once: rows are read for the fingerprint, and again for the plan
_FIELDS: Final = frozenset(
    ("id", "audio", "audio_filepath", "text", "lang", "speaker", "group", "offset", "duration", "translations", "split")
)
_OF_NEMO: Final = frozenset(  # what its manifests have besides: of Canary, of diarization, of its own tools
    {"source_lang", "target_lang", "task", "taskname", "pnc", "itn", "timestamp", "diarize", "emotion", "answer"}
    | {"decodercontext", "label", "num_speakers", "rttm_filepath", "pred_text", "shard_id"}
)
_FILES: Final = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


class Manifest:
    """Reader of JSONL manifests."""

    version = "manifest 3"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = (
        "path is a folder of train.jsonl, dev.jsonl, test.jsonl (or splits={train: NAME.json} names them), or one file "
        "whose rows have a field split; each line is an object with at least audio (or audio_filepath) and text"
    )

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang
        self._single = options.path.endswith(_FILES)
        self._named = bool(options.splits)
        self._heard = _FIELDS | _OF_NEMO  # no field is told twice

    def has(self, part: str) -> bool:
        if not self._single:
            return storage.exists(self._url(part))
        return any(self._own(fields, where) == part for where, fields in self._objects(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        """The rows of a part. Raises `DataError` where none is in the language."""
        languages: Counter[str] = Counter()
        for where, fields in self._objects(part):
            if isinstance(fields, DataError):
                # In a single file a row that cannot be read names no part: it is one of the training rows.
                if not self._single or split == SPLITS[0]:
                    yield Row(where, None, detail=fields.what)
            elif not self._single or self._own(fields, where) == part:
                lang = fields.get("lang", self._lang)
                languages[str(lang)] += 1
                if lang == self._lang:
                    self._tell_unread(fields, where)
                    yield understand(where, self._utterance, fields, where, split)
        if languages and self._lang not in languages:
            raise DataError(
                f"has no rows of the part {part} in the language {self._lang}",
                where=self._url(part),
                hint=f"the field lang says: {', '.join(sorted(languages))}",
            )
        if others := [f"{count:,} {lang}" for lang, count in sorted(languages.items()) if lang != self._lang]:
            _tell(f"{self._url(part)}: of {part} the rows of other languages are left out: {', '.join(others)}")

    def _tell_unread(self, fields: Mapping[str, Any], where: str) -> None:
        if unread := fields.keys() - self._heard:
            self._heard |= unread
            _tell(f"{where}: fields not read: {', '.join(sorted(unread))}")

    def _url(self, part: str) -> str:
        if self._single:
            return self._path
        return storage.join(self._path, part if part.endswith(_FILES) else f"{part}.jsonl")

    def _objects(self, part: str) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
        url = self._url(part)
        for row, line in read_lines(url):
            try:
                yield place(url, row), parse_object(line)
            except DataError as error:
                yield place(url, row), error

    def _own(self, fields: Mapping[str, Any] | DataError, where: str) -> str | None:
        """The part that a row of a single file names."""
        if isinstance(fields, DataError):
            return None
        part = fields.get("split")
        if part not in SPLITS and not self._named:
            raise DataError(
                "has no field split" if part is None else f"has the split {part!r}",
                where=where,
                hint="rows of a single manifest name train, dev or test; map other names with splits={dev: validation}",
            )
        return None if part is None else str(part)

    def _utterance(self, fields: Mapping[str, Any], where: str, split: str) -> Utterance:
        url, _, row = where.rpartition(", row ")
        folder, slash, file = url.rpartition("/")
        audio = text(fields, "audio" if "audio" in fields else "audio_filepath")
        if not audio.startswith("/") and "://" not in audio:
            audio = storage.join(folder if slash else ".", audio)
        speaker = label(fields, "speaker")
        return Utterance(
            id=label(fields, "id") or f"{file.partition('.')[0]}-{row}",
            audio=audio,
            text=text(fields, "text"),
            lang=self._lang,
            split=split,
            speaker=speaker,
            group=label(fields, "group") or speaker,
            offset=0.0 if fields.get("offset") is None else number(fields, "offset"),
            duration=None if fields.get("duration") is None else number(fields, "duration"),
            translations=texts_by_language(fields, "translations"),
        )
