"""Which engine translates, and what of its configuration and content decides the labels."""

import hashlib
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import ConfigError, DataError

MODEL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "xlst_mt.json",
)


class EngineOptions(Section):
    """An engine and its limits."""

    engine: Literal["human", "trained-lm", "phrasebook"] = option(
        "trained-lm", "human: a column of the corpus; trained-lm: a model of jobs/train_mt.py; phrasebook: a table"
    )
    path: Url | None = option(None, "trained-lm: URL of the model's folder; the recipe fills it in")
    table: Url | None = option(None, "phrasebook: URL of a tab-separated table whose header names the languages")
    max_new_tokens_ratio: float = option(
        2.0, "trained-lm: longest translation per source token; a longer one is an error", gt=0, unit="tokens/token"
    )
    max_new_tokens_margin: int = option(16, "trained-lm: tokens allowed on top of the ratio", ge=1, unit="tokens")
    batch_size: int = option(64, "trained-lm: sentences generated together", ge=1, unit="sentences")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.engine == "phrasebook" and self.table is None:
            raise ValueError("engine phrasebook needs a table")
        if self.engine != "phrasebook" and self.table is not None:
            raise ValueError(f"table is for engine phrasebook, not {self.engine}")
        if self.engine != "trained-lm" and self.path is not None:
            raise ValueError(f"path is for engine trained-lm, not {self.engine}")
        return self

    def label_config(self) -> dict[str, Any]:
        """What of the options changes a translation: for the labels' fingerprint, so no place and no batch size."""
        if self.engine != "trained-lm":
            return {"engine": self.engine}
        return self.model_dump(mode="json", include={"engine", "max_new_tokens_ratio", "max_new_tokens_margin"})

    def content_fingerprint(self) -> str:
        """12 hexadecimal digits of the SHA-256 over the model's files or the table; of nothing for `human`.

        Raises:
            ConfigError: trained-lm without a path.
            DataError: a file is missing.
        """
        digest = hashlib.sha256()
        for url in self._files():
            content = hashlib.sha256(storage.read_bytes(url)).hexdigest()
            digest.update(f"{content}\n".encode())
        return digest.hexdigest()[:12]

    def model_folder(self) -> str:
        """The folder of the trained-lm, seen to have all its files.

        Raises:
            ConfigError: no path is given.
            DataError: a file is missing.
        """
        if self.path is None:
            raise ConfigError("engine trained-lm needs a path", hint="give the folder that jobs/train_mt.py printed")
        missing = [name for name in MODEL_FILES if not storage.exists(storage.join(self.path, name))]
        if missing:
            raise DataError(
                f"is no folder of a trained-lm: it has no {', '.join(missing)}",
                where=self.path,
                hint="give the folder that jobs/train_mt.py printed",
            )
        return self.path

    def _files(self) -> list[str]:
        if self.engine == "phrasebook" and self.table is not None:
            return [self.table]
        if self.engine == "trained-lm":
            folder = self.model_folder()
            return [storage.join(folder, name) for name in MODEL_FILES]
        return []
