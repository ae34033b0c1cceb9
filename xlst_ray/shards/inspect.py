"""A look into one shard: what is wrong with its rows, and the distributions that show what is wrong with a corpus."""

import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import soundfile

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.languages import language
from xlst_ray.shards.files import read_labels
from xlst_ray.shards.schema import SAMPLE_RATE, SHARD_SCHEMA
from xlst_ray.text.script import is_written_in, share_of_letters

Fault = Literal[
    "schema",
    "duplicate-id",
    "undecodable",
    "wrong-rate",
    "wrong-duration",
    "silent",
    "empty-text",
    "few-letters",
    "other-script",
    "too-fast",
    "speaking-rate",
    "other-language",
    "labels",
    "leakage",
    "shared-speakers",
]

MEANING: Final[dict[Fault, str]] = {
    "schema": "a shard cannot be read, or a column is missing or of another type",
    "duplicate-id": "an id stands twice in a split",
    "undecodable": "the audio cannot be decoded, or its end is missing",
    "wrong-rate": f"the audio is not mono at {SAMPLE_RATE} Hz",
    "wrong-duration": "the audio is not as long as its duration says",
    "silent": "no sample is louder than -60 dB",
    "empty-text": "the transcript is empty",
    "few-letters": "less than half of the transcript is letters: a path, a number, a column of something else",
    "other-script": "the transcript is in another script than its language: columns swapped?",
    "too-fast": "more text than can be spoken in that time: a clip cut short, or another clip's transcript",
    "speaking-rate": "half of a shard is spoken implausibly fast or slowly: a wrong sample rate at the source?",
    "other-language": "the transcripts are in another language: columns swapped?",
    "labels": "the label file is missing or out of step with its shard",
    "leakage": "a sentence to train on is one of the test or development set",
    "shared-speakers": "a speaker of the test or development set is one to train on",
}

SILENCE: Final = 1e-3  # of full scale: -60 dB
EXAMPLES: Final = 3
DURATION_EDGES: Final = tuple(range(41))  # seconds; what is longer counts in the last one
SPEED_EDGES: Final = tuple(range(51))  # characters a second

_TOLERANCE: Final = 0.01  # seconds
# Characters a second, spaces included: the median of a shard lies between, and no utterance is above the last. Read
# sentences have 10 to 20 in an alphabet, 3 to 6 where a character is a syllable or a word.
_ALPHABETIC: Final = (4.0, 30.0, 45.0)
_SYLLABIC: Final = (1.5, 12.0, 20.0)
_ENOUGH: Final = 5  # utterances for a median to say something


@dataclass
class Inspection:
    """What was seen, of one shard or of several together.

    Attributes:
        rows, seconds: utterances and hours of audio, by the duration column.
        faults: number of rows by fault.
        examples: up to three places by fault.
        unreadable: shards that are not what they should be, and were not looked into.
        durations, speeds: histograms over `DURATION_EDGES` and `SPEED_EDGES`.
    """

    rows: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    durations: list[int] = field(default_factory=lambda: [0] * len(DURATION_EDGES))
    speeds: list[int] = field(default_factory=lambda: [0] * len(SPEED_EDGES))

    def note(self, fault: Fault, place: str, rows: int = 1) -> None:
        """Count a fault, and keep its place as an example."""
        self.faults[fault] += rows
        self.examples[fault] = [*self.examples.get(fault, []), place][:EXAMPLES]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "faults": dict(self.faults)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Inspection":
        return Inspection(**{**values, "faults": Counter(values["faults"])})

    def add(self, other: "Inspection") -> None:
        """Count what was seen elsewhere too."""
        self.rows += other.rows
        self.seconds += other.seconds
        self.faults.update(other.faults)
        for fault, places in other.examples.items():
            self.examples[fault] = [*self.examples.get(fault, []), *places][:EXAMPLES]
        self.unreadable += other.unreadable
        self.durations = [one + more for one, more in zip(self.durations, other.durations, strict=True)]
        self.speeds = [one + more for one, more in zip(self.speeds, other.speeds, strict=True)]


def inspect_shard(url: str, labels: str | None = None) -> Inspection:
    """Look at every row of a shard, its audio decoded, and at its label file where there is one.

    Only a store that does not answer is an error here: what is wrong with the shard is what is looked for.
    """
    seen = Inspection()
    try:
        table = storage.read_table(url)
    except DataError as error:
        seen.note("schema", str(error))
        seen.unreadable.append(url)
        return seen
    wrong = _wrong_columns(table)
    if wrong:
        seen.note("schema", f"{url}: {', '.join(wrong)}", max(1, table.num_rows))
        seen.unreadable.append(url)
        return seen
    for row in table.to_pylist():
        _inspect_row(seen, row, f"{url}, {row['id']}")
    _inspect_rate(seen, table, url)
    if labels is not None:
        try:
            read_labels(url, labels, table["id"].to_pylist())
        except DataError as error:
            seen.note("labels", str(error), table.num_rows)
    return seen


def _wrong_columns(table: pa.Table) -> list[str]:
    there = {column.name: column for column in table.schema}
    return [
        f"no column {column.name}" if column.name not in there else f"{column.name} is {there[column.name].type}"
        for column in SHARD_SCHEMA
        if column.name not in there or there[column.name].type != column.type
    ]


def _inspect_row(seen: Inspection, row: dict[str, Any], place: str) -> None:
    seen.rows += 1
    seen.seconds += row["duration"]
    seen.durations[min(max(int(row["duration"]), 0), len(DURATION_EDGES) - 1)] += 1
    _inspect_audio(seen, row["audio"], row["duration"], place)
    text = row["text"].strip()
    if not text:
        seen.note("empty-text", place)
        return
    if share_of_letters(text) < 0.5:
        seen.note("few-letters", f"{place}: {text[:60]!r}")
    elif is_written_in(text, language(row["lang"]).script) is False:
        seen.note("other-script", f"{place}: {text[:60]!r}")
    speed = len(text) / max(row["duration"], 1e-3)
    seen.speeds[min(int(speed), len(SPEED_EDGES) - 1)] += 1
    if speed > _bounds(row["lang"])[2]:
        seen.note("too-fast", f"{place}: {len(text)} characters in {row['duration']:.2f} s")


def _inspect_audio(seen: Inspection, audio: bytes, duration: float, place: str) -> None:
    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as file:
            wave, rate, channels, frames = file.read(dtype="float32"), file.samplerate, file.channels, file.frames
    except soundfile.LibsndfileError as error:
        seen.note("undecodable", f"{place}: {error.error_string}")
        return
    if len(wave) < frames:
        seen.note("undecodable", f"{place}: {len(wave)} of {frames} samples")
    elif (rate, channels) != (SAMPLE_RATE, 1):
        seen.note("wrong-rate", f"{place}: {rate} Hz, {channels} channels")
    elif abs(len(wave) / rate - duration) > _TOLERANCE:
        seen.note("wrong-duration", f"{place}: {len(wave) / rate:.2f} s, said to be {duration:.2f} s")
    elif float(np.abs(wave).max(initial=0.0)) < SILENCE:
        seen.note("silent", place)


def _inspect_rate(seen: Inspection, table: pa.Table, url: str) -> None:
    """Compare a shard's median of characters a second with what people speak."""
    rows = zip(table["text"].to_pylist(), table["duration"].to_pylist(), table["lang"].to_pylist(), strict=True)
    by_language: dict[str, list[float]] = defaultdict(list)
    for text, seconds, lang in rows:
        if text.strip() and seconds > 0:
            by_language[lang].append(len(text.strip()) / seconds)
    for lang, speeds in by_language.items():
        slow, fast, _ = _bounds(lang)
        median = float(np.median(speeds))
        if len(speeds) >= _ENOUGH and not slow <= median <= fast:
            seen.note("speaking-rate", f"{url}: {median:.1f} characters a second in {lang}", len(speeds))


def _bounds(lang: str) -> tuple[float, float, float]:
    return _ALPHABETIC if language(lang).spaces else _SYLLABIC
