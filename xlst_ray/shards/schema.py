"""What a corpus reader yields (`Utterance`) and what a shard and a label file hold (Arrow schemas).

A shard is a Parquet file of some hundreds of utterances of one split, `<folder>/<split>/shard-00000.parquet`; beside it
`shard-00000.rejected.jsonl` names the clips that did not make it, with the reason. Audio is FLAC, mono, 16 kHz, decoded
once from the source. Text is kept as the corpus has it; normalisation happens at reading (`xlst_ray.text`).

A label file has the same rows in the same order as its shard: `<labels folder>/<split>/shard-00000.parquet`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import pyarrow as pa

SAMPLE_RATE: Final = 16_000  # Hz
SPLITS: Final = ("train", "dev", "test")
ROW_GROUP_ROWS: Final = 32  # small, so that a batch's rows can be read without the whole shard

Split = Literal["train", "dev", "test"]
LabelStatus = Literal["ok", "missing", "error"]
LABEL_STATUSES: Final = get_args(LabelStatus)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus before decoding: where its audio lies and what is known of it.

    Attributes:
        id: unique within the corpus; letters, digits and `._-/` only.
        audio: path or URL of the audio file.
        text: the transcript as the corpus has it.
        lang: language code as in `xlst_ray.languages`.
        split: `train`, `dev` or `test`.
        speaker: speaker id, or empty where unknown.
        group: what splits must not tear apart and what bootstrap resamples: a scene, a document; else the speaker.
        offset: start of the segment within the file, seconds.
        duration: length of the segment, seconds; none: to the end of the file.
        translations: human translations by language code.
    """

    id: str
    audio: str
    text: str
    lang: str
    split: str
    speaker: str = ""
    group: str = ""
    offset: float = 0.0
    duration: float | None = None
    translations: Mapping[str, str] = field(default_factory=dict)


SHARD_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("audio", pa.large_binary(), nullable=False),  # FLAC; large: a column may pass Arrow's 2 GB offsets
        pa.field("duration", pa.float64(), nullable=False),  # seconds
        pa.field("text", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("translations", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)

LABEL_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("translation", pa.string()),  # null unless status is ok
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
