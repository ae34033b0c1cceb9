"""Which corpus is read, and what it is called there."""

from typing import Literal

from pydantic import field_validator

from xlst_ray.config import LanguageCode, Section, absolute, option
from xlst_ray.demo.options import DemoOptions
from xlst_ray.shards.schema import SPLITS

Reader = Literal["manifest", "common_voice", "fish_fillets", "demo"]


class CorpusOptions(Section):
    """One corpus in one language."""

    reader: Reader = option(..., "the layout of the corpus; one reader each")
    path: str = option("", "folder, file or URL of the corpus; not used by demo")
    lang: LanguageCode = option(..., "language code of the transcripts, such as nl")
    limit: int | None = option(None, "only the first rows of each split; none: all", unit="rows", ge=1)
    splits: dict[str, str] = option(
        {}, "the corpus' own names of our splits, such as {dev: validated}; empty: train, dev, test where they exist"
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
