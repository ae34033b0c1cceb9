"""Mozilla Common Voice, a release folder of one locale as it unpacks: `<part>.tsv` beside `clips/`.

The layout is that of the release notes (github.com/common-voice/cv-dataset, README.md) and of the releases themselves:
tab-separated, with a header; `client_id` (a hash of the speaker), `path` (of the clip, in `clips/`), `sentence`, votes
and demographics, whose columns differ from release to release. Quotation marks are text, not quoting.

Besides the official `train`, `dev` and `test`, a release has `validated` (all clips that enough people approved of:
the three parts and much more of the same sentences), `other` and `invalidated`: `splits={train: validated}` reads that
one, and `splits={train: validated, dev: dev, test: test}` would have test sentences in training, which a run then
refuses.

From commonvoice.mozilla.org/datasets, under CC0.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.corpora.corpus import Row, understand
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.tables import Columns
from xlst_ray.shards.schema import Utterance

INDEX_HINT: Final = "a Common Voice index is tab-separated, and its first line names client_id, path, sentence"


class CommonVoice:
    """Reader of a release folder. Speakers are the groups."""

    version = "common_voice 3"
    parts: Final = {"train": "train", "dev": "dev", "test": "test"}
    layout = (
        "a Common Voice release of one locale holds clips/ and train.tsv: path is such as cv-corpus-17.0-2024-03-15/nl"
    )

    def __init__(self, options: CorpusOptions) -> None:
        self._path, self._lang = options.path, options.lang

    def has(self, part: str) -> bool:
        return storage.exists(self._index(part))

    def rows(self, part: str, split: str) -> Iterator[Row]:
        columns = Columns(self._index(part), ("client_id", "path", "sentence"), INDEX_HINT)
        for where, line in columns.rows():
            yield understand(where, self._utterance, columns, line, split)

    def _index(self, part: str) -> str:
        return storage.join(self._path, f"{part}.tsv")

    def _utterance(self, columns: Columns, line: str, split: str) -> Utterance:
        speaker, path, sentence = columns.of(line)
        return clip_utterance(self._path, speaker, path, sentence, self._lang, split)


def clip_utterance(folder: str, client_id: str, path: str, sentence: str, lang: str, split: str) -> Utterance:
    """The utterance of a release's row."""
    # The first releases name clips without the extension.
    clip = path if "." in path.rpartition("/")[2] or not path else f"{path}.mp3"
    speaker = hashlib.sha256(client_id.encode(errors="replace")).hexdigest()[:12] if client_id else ""
    return Utterance(
        id=clip.rpartition(".")[0],
        audio=storage.join(folder, "clips", clip),
        text=sentence,
        lang=lang,
        split=split,
        speaker=speaker,
        group=speaker,
    )
