"""Which engine translates, and what of its configuration and content decides the labels."""

import hashlib
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.llm_options import HttpOptions, PromptOptions, VllmOptions
from xlst_ray.mt.lm_info import INFO_FILE, read_info
from xlst_ray.mt.specification import SamplingOptions, Specification

MODEL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    INFO_FILE,
)

LARGE_BYTES: Final = 2**30  # of a larger file, its fingerprint covers samples
SAMPLES: Final = 256
SAMPLE_BYTES: Final = 2**20

Engine = Literal["human", "phrasebook", "trained-lm", "transformers", "ctranslate2", "vllm", "http"]
FOLDERS: Final = ("trained-lm", "transformers", "ctranslate2", "vllm")  # engines of a model in a folder
NAMES: Final = ("vllm", "http")  # engines of a model by name
ASKING: Final = ("vllm", "http")  # engines that write prompts


class EngineOptions(Section):
    """An engine and its limits."""

    engine: Engine = option(
        "trained-lm",
        "human: a column of the corpus; phrasebook: a table; trained-lm: a model of jobs/train_mt.py;"
        " transformers, ctranslate2: encoder-decoder models (NLLB-200, MADLAD-400, OPUS-MT); vllm: an LLM in the job;"
        " http: an LLM behind OpenAI's interface",
    )
    path: Url | None = option(
        None, "trained-lm, transformers, ctranslate2, vllm: URL of the model's folder; the recipe fills in trained-lm's"
    )
    model: str | None = option(None, "http: the model's name at the server; vllm: its name at a hub, in place of path")
    revision: str | None = option(
        None, "http, vllm: a commit of the hub, or what tells one state of a served model from another"
    )
    table: Url | None = option(None, "phrasebook: URL of a tab-separated table whose header names the languages")
    max_new_tokens_ratio: float = option(
        2.0,
        "longest translation per token of the source (vllm, http: per character); a longer one is an error",
        gt=0,
        unit="tokens/token",
    )
    max_new_tokens_margin: int = option(16, "tokens allowed on top of the ratio", ge=1, unit="tokens")
    batch_size: int = option(
        64, "trained-lm, transformers, ctranslate2: sentences generated together", ge=1, unit="sentences"
    )
    beams: int = option(1, "transformers, ctranslate2: width of the beam search; 1: greedy", ge=1)
    prompt: PromptOptions = option(PromptOptions, "http, vllm: how to ask")
    sampling: SamplingOptions = option(SamplingOptions, "http, vllm: how words are chosen")
    http: HttpOptions = option(HttpOptions, "http: the server")
    vllm: VllmOptions = option(VllmOptions, "vllm: the engine in the job")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.engine == "phrasebook" and self.table is None:
            raise ValueError("engine phrasebook needs a table")
        only = {"table": ("phrasebook",), "path": FOLDERS, "model": NAMES, "revision": NAMES}
        for name, engines in only.items():
            if self.engine not in engines and getattr(self, name) is not None:
                raise ValueError(f"{name} is for engine {', '.join(engines)}, not {self.engine}")
        if self.engine == "http" and (self.http.url is None or self.model is None):
            raise ValueError("engine http needs http.url and model")
        if self.path is not None and self.model is not None:
            raise ValueError("give path or model, not both")
        if self.engine == "vllm" and self.model is not None and self.revision is None:
            raise ValueError(f"model {self.model} needs a revision: its commit at the hub, for it may change")
        return self

    def label_config(self) -> dict[str, Any]:
        """What of the options changes a translation: for the labels' fingerprint, so no place and no batch size."""
        limits = {"engine", "max_new_tokens_ratio", "max_new_tokens_margin"}
        if self.engine in ("human", "phrasebook"):
            return {"engine": self.engine}
        if self.engine == "trained-lm":
            return self.model_dump(mode="json", include=limits)
        if self.engine in ("transformers", "ctranslate2"):
            return self.model_dump(mode="json", include={*limits, "beams"})
        config = self.model_dump(mode="json", include={*limits, "model", "revision", "sampling"})
        prompt = self.prompt.preset if self.prompt.template is None else "template"
        if self.engine == "vllm":
            return {**config, "prompt": prompt, "vllm": self.vllm.label_config()}
        return {**config, "prompt": prompt, "http": self.http.body}

    def content_fingerprint(self, source: str, target: str) -> str:
        """12 hexadecimal digits over the content of model, table, prompt, examples, glossary; of nothing for `human`.

        Of files above 1 GiB, which hold weights, samples are read: two models differ everywhere.

        Raises:
            ConfigError: an engine without its path, or whose prompt cannot be made.
            DataError: a file is missing.
        """
        digest = hashlib.sha256()
        for url in self._files():
            digest.update(f"{file_fingerprint(url)}\n".encode())
        if self.engine in ASKING:
            digest.update(self.specify(source, target).fingerprint().encode())
        return digest.hexdigest()[:12]

    def specify(self, source: str, target: str) -> Specification:
        """What http and vllm ask for a pair of languages.

        Raises:
            ConfigError, DataError: as `PromptOptions.specify` does; or vllm's model is one of jobs/train_mt.py, of
                another pair or with another prompt.
        """
        if self.engine == "vllm" and self.path and storage.exists(storage.join(self.path, INFO_FILE)):
            read_info(self.path).check(source, target, where=self.path)
            if self.prompt.template is None and self.prompt.preset != "trained-lm":
                raise ConfigError(
                    "is a model of jobs/train_mt.py, which has a prompt of its own",
                    where=self.path,
                    hint="set engine.prompt.preset=trained-lm",
                )
        return self.prompt.specify(self.sampling, self.max_new_tokens_ratio, self.max_new_tokens_margin, source, target)

    def model_folder(self) -> str:
        """The folder of the model, seen to have what every one of its kind has.

        Raises:
            ConfigError: no path is given.
            DataError: a file is missing.
        """
        hint = "give the folder that jobs/train_mt.py printed" if self.engine == "trained-lm" else _FOLDER_HINT
        if self.path is None:
            raise ConfigError(f"engine {self.engine} needs a path", hint=hint)
        needed = MODEL_FILES if self.engine == "trained-lm" else ("config.json",)
        missing = [name for name in needed if not storage.exists(storage.join(self.path, name))]
        if missing:
            raise DataError(
                f"is no folder of a {self.engine} model: it has no {', '.join(missing)}", where=self.path, hint=hint
            )
        return self.path

    def _files(self) -> list[str]:
        if self.engine == "phrasebook" and self.table is not None:
            return [self.table]
        if self.engine == "trained-lm":
            folder = self.model_folder()
            return [storage.join(folder, name) for name in MODEL_FILES]
        if self.engine in FOLDERS and self.model is None:
            return storage.list_files(self.model_folder())
        return []


_FOLDER_HINT: Final = "give the folder that the model's save_pretrained or a download from its hub has made"


def file_fingerprint(url: str) -> str:
    """SHA-256 of a file's content; of a large one, of its size and of samples from its beginning to its end."""
    with storage.open_input(url) as file:
        size = file.size()
        if size <= LARGE_BYTES:
            return hashlib.sha256(file.read()).hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for number in range(SAMPLES):
            file.seek(number * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()
