"""Which column of somebody's table is what: by the options, else by the names that are usual."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError

_USUAL: Final[Mapping[str, Sequence[str]]] = {
    "audio": ("audio",),
    "text": ("text", "sentence", "transcription", "transcript", "raw_transcription", "raw_text", "normalized_text"),
    "id": ("id", "utterance_id"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "group": (),
}


class Names:
    """The columns of a table that are read, in a table that has the columns `known` (`a.b` of a struct).

    Attributes:
        audio, text, id, speaker, group: column names; empty where there is no such column.
        translations: columns by language.
    """

    def __init__(self, options: CorpusOptions, known: Sequence[str], where: str, *needed: str) -> None:
        """Raises `DataError` where a column that the options name, or that is needed, is missing."""
        named: dict[str, str] = dict(options.columns.items())
        named |= {f"translations.{lang}": name for lang, name in options.translations.items()}
        lacking = [f"{role}={name}" for role, name in named.items() if name not in known]
        found = {role: next((name for name in usual if name in known), "") for role, usual in _USUAL.items()}
        found |= dict(options.columns.items())
        lacking += [role for role in needed if not found[role]]
        if lacking:
            raise DataError(
                f"has no column for {', '.join(lacking)}; it has {', '.join(known)}",
                where=where,
                hint="name it, such as columns={text: sentence} or translations={en: translation}",
            )
        self.audio, self.text, self.id = found["audio"], found["text"], found["id"]
        self.speaker, self.group = found["speaker"], found["group"]
        self.translations = options.translations

    @property
    def of_text(self) -> list[str]:
        """All of them but the audio."""
        named = (self.text, self.id, self.speaker, self.group, *self.translations.values())
        return list(dict.fromkeys(name for name in named if name))


def cell(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column, `a.b` of a struct; none where the name is empty or there is no such value."""
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def text_cell(row: Mapping[str, Any], name: str) -> str:
    """A text that must be there. Raises `DataError`."""
    value = cell(row, name)
    if not isinstance(value, str):
        raise DataError(f"{name} is no text but {value!r}")
    return value


def label_cell(row: Mapping[str, Any], name: str) -> str:
    """An id as text, empty where it is null."""
    value = cell(row, name) if name else None
    return "" if value is None else str(value)


def translations_of(row: Mapping[str, Any], names: Names) -> dict[str, str]:
    """The translations that are there."""
    found = {lang: cell(row, name) for lang, name in names.translations.items()}
    return {lang: value for lang, value in found.items() if isinstance(value, str) and value}
