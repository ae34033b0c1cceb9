"""Which corpus is read, and what it is called there."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import field_validator, model_validator

from xlst_ray.config import LanguageCode, Section, absolute, option
from xlst_ray.demo.options import DemoOptions
from xlst_ray.shards.schema import SPLITS

Reader = Literal[
    "manifest",
    "common_voice",
    "covost",
    "fleurs",
    "hf_parquet",
    "hf_audiofolder",
    "lhotse",
    "webdataset",
    "librispeech",
    "mls",
    "must_c",
    "mtedx",
    "europarl_st",
    "voxpopuli",
    "fish_fillets",
    "demo",
]

PATHS: Final[Mapping[Reader, str]] = {
    "manifest": "folder of train.jsonl, dev.jsonl, test.jsonl, or one file; NeMo's manifests too",
    "common_voice": "folder of one locale, with clips/ and train.tsv",
    "covost": "folder of Common Voice 4, with clips/ and validated.tsv; translations={en: covost_v2.fr_en.tsv}",
    "fleurs": "folder of one configuration, such as data/nl_nl; translations={en: en_us}",
    "hf_parquet": "folder of train-*.parquet, as on the Hugging Face Hub; columns, translations: columns",
    "hf_audiofolder": "folder with metadata.csv or metadata.jsonl; columns, translations: columns",
    "lhotse": "folder of cuts_train.jsonl.gz",
    "webdataset": "folder of train-*.tar; columns, translations: fields of .json",
    "librispeech": "folder LibriSpeech, with train-clean-100/",
    "mls": "folder of one language, such as mls_dutch",
    "must_c": "folder of a pair, such as en-de",
    "mtedx": "folder of a language or pair, such as es-es or es-en",
    "europarl_st": "folder of a pair, such as v1.1/en/de",
    "voxpopuli": "folder of one language, such as transcribed_data/nl",
    "fish_fillets": "folder that Debian's packages of the game were unpacked to",
    "demo": "none: it is made here",
}
_READERS_OF: Final[Mapping[str, tuple[Reader, ...]]] = {
    "columns": ("hf_parquet", "hf_audiofolder", "webdataset"),
    "translations": ("covost", "fleurs", "hf_parquet", "hf_audiofolder", "webdataset"),
    "demo": ("demo",),
}
_PATH_HELP: Final = "folder, file or URL of the corpus\n" + "\n".join(
    f"        {reader:<14} {what}" for reader, what in PATHS.items()
)

Role = Literal["audio", "text", "id", "speaker", "group"]


class CorpusOptions(Section):
    """One corpus in one language."""

    reader: Reader = option(..., "the layout of the corpus")
    path: str = option("", _PATH_HELP)
    lang: LanguageCode = option(..., "language code of the transcripts, such as nl")
    limit: int | None = option(None, "only the first rows of each split; none: all", unit="rows", ge=1)
    splits: dict[str, str] = option(
        {},
        "the corpus' own names of our splits, such as {train: validated} or, several together, {train: a+b}; "
        "empty: the official train, dev, test where they exist",
    )
    columns: dict[Role, str] = option({}, "columns of hf_parquet, hf_audiofolder, webdataset, such as {text: sentence}")
    translations: dict[LanguageCode, str] = option(
        {}, "where human translations stand, by language: see path; other readers find them by themselves"
    )
    demo: DemoOptions = option(DemoOptions, "the demo corpus")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return path and absolute(path)

    @field_validator("splits")
    @classmethod
    def _only_our_splits(cls, splits: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(splits.keys() - set(SPLITS)):
            raise ValueError(f"unknown split {', '.join(unknown)}: the keys are {', '.join(SPLITS)}")
        return splits

    @model_validator(mode="after")
    def _only_what_the_reader_uses(self) -> Self:
        for name, readers in _READERS_OF.items():
            if self.reader not in readers and getattr(self, name) != type(self).model_fields[name].get_default(
                call_default_factory=True, validated_data={}
            ):
                raise ValueError(f"{name} is not used by the reader {self.reader}, but by {', '.join(readers)}")
        return self
