"""The demo corpus: sentences of a bilingual grammar, English (`en`, with Finnish translations) or Finnish (`fi`).

Its recordings are `espeak:` URLs, spoken where they are decoded.
"""

from collections.abc import Iterator
from typing import Final

from xlst_ray.corpora.corpus import Row
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.demo import speech
from xlst_ray.demo.corpus import sentences
from xlst_ray.demo.voices import cast, room_of
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import SPLITS, Utterance

_SIDES = {"en": "source", "fi": "target"}


class Demo:
    """Reader of the demo corpus in one language. Speakers are the groups.

    Raises:
        ConfigError: another language than `en` and `fi`.
    """

    def __init__(self, options: CorpusOptions) -> None:
        if options.lang not in _SIDES:
            raise ConfigError(f"the demo corpus has no language {options.lang!r}", hint="it has en and fi")
        self._lang = options.lang
        self._options = options.demo

    @property
    def version(self) -> str:
        return f"demo 2, espeak-ng {speech.version()}"

    parts: Final = {split: split for split in SPLITS}
    layout = "it is made here"

    def has(self, part: str) -> bool:
        return part in SPLITS

    def rows(self, part: str, split: str) -> Iterator[Row]:
        """The rows of a split; the speakers take turns."""
        voices = cast(self._options, self._lang, part)
        for row, pair in enumerate(sentences(self._options, f"{_SIDES[self._lang]}_{part}")):
            utterance_id = f"{self._lang}-{split}-{row:05d}"
            text = pair.en if self._lang == "en" else pair.fi
            turn = row % len(voices)
            speaker = f"{self._lang}-{split}-speaker-{turn:02d}"
            utterance = Utterance(
                id=utterance_id,
                audio=speech.url_of(text, self._lang, voices[turn], room_of(self._options, utterance_id)),
                text=text,
                lang=self._lang,
                split=split,
                speaker=speaker,
                group=speaker,
                translations={"fi": pair.fi} if self._lang == "en" else {},
            )
            yield Row(f"sentence {row + 1} of {part}", utterance)


def read_audio(url: str) -> bytes:
    """The WAV file that an utterance's `audio` names; errors as in `demo.speech.render`."""
    return speech.render(url)
