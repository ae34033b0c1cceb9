"""Configuration of the engines that ask a language model, and the specification that comes of it."""

from typing import Any, Final, Literal, Self

from pydantic import model_validator

from xlst_ray import storage
from xlst_ray.config import Section, Url, from_values, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.languages import language
from xlst_ray.mt.pairs import Pair, PairsOptions, read_pairs
from xlst_ray.mt.specification import Glossary, SamplingOptions, Specification, check_languages, check_names
from xlst_ray.mt.templates import PRESETS, PromptTemplate
from xlst_ray.plain_yaml import parse_yaml

_PLACING: Final = (  # arguments of vLLM that decide where and how fast it runs
    "cpu_offload_gb",
    "distributed_executor_backend",
    "download_dir",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "max_num_batched_tokens",
    "max_num_seqs",
    "pipeline_parallel_size",
    "tensor_parallel_size",
)


class PromptOptions(Section):
    """How http and vllm ask for a translation."""

    preset: Literal["general", "eurollm", "tower", "translategemma", "trained-lm"] = option(
        "general",
        "general: any model that follows instructions; eurollm, tower, translategemma: families trained to translate,"
        " as their cards have it; trained-lm: a model of jobs/train_mt.py",
    )
    template: Url | None = option(
        None, "YAML file of your own in place of the preset: form, system, user, example, glossary, stop, languages"
    )
    shots: int = option(0, "worked examples in every prompt, taken from `examples`", ge=0)
    examples: dict[str, PairsOptions] = option({}, "sources of sentence pairs by name: where worked examples come from")
    glossary: dict[str, PairsOptions] = option({}, "sources of term pairs by name, given where a sentence has the term")
    chat_template_kwargs: dict[str, Any] = option(
        {}, "arguments of the model's chat template, such as {enable_thinking: false}"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.shots > 0) != bool(self.examples):
            raise ValueError("shots and examples need each other")
        return self

    def read_template(self) -> PromptTemplate:
        """The preset, or the user's file.

        Raises:
            ConfigError: the file is no template: unknown keys or placeholders, or one that lacks.
            DataError: it is missing.
        """
        if self.template is None:
            return PRESETS[self.preset]
        try:
            values = parse_yaml(storage.read_bytes(self.template).decode("utf-8"))
        except ValueError as error:  # UnicodeDecodeError is one
            raise ConfigError(f"is not YAML in UTF-8: {error}", where=self.template) from None
        return from_values(PromptTemplate, values, where=self.template)

    def specify(
        self, sampling: SamplingOptions, tokens_ratio: float, tokens_margin: int, source: str, target: str
    ) -> Specification:
        """What to ask for a pair of languages; reads template, examples and glossary.

        Raises:
            ConfigError: the models of the template lack a language, or it has no place for examples or a glossary.
            DataError: a file is missing or damaged.
        """
        template, name = self.read_template(), self.template or f"prompt preset {self.preset}"
        check_languages(template.languages, source, target, what=name)
        check_names(template, source, target, what=name)
        if self.shots and not template.takes_examples:
            raise ConfigError("has no place for examples", where=name, hint="set prompt.shots=0")
        if self.glossary and not template.takes_glossary:
            raise ConfigError("has no {glossary}", where=name, hint="leave prompt.glossary out")
        examples = _read(self.examples, source, target)[: self.shots]
        if len(examples) < self.shots:
            raise DataError(f"prompt.examples has {len(examples)} pairs {source}-{target}, and shots is {self.shots}")
        return Specification(
            template=template,
            source=language(source),
            target=language(target),
            examples=tuple(examples),
            glossary=Glossary(_read(self.glossary, source, target), spaces=language(source).spaces),
            sampling=sampling,
            tokens_ratio=tokens_ratio,
            tokens_margin=tokens_margin,
            chat_template_arguments=self.chat_template_kwargs,
        )


class HttpOptions(Section):
    """A server with OpenAI's interface: vLLM, SGLang, llama.cpp or a hosted one."""

    url: str | None = option(None, "base of the server's interface, such as http://127.0.0.1:8000/v1")
    key_env: str | None = option(None, "environment variable that holds the key; none: the server wants no key")
    limit_field: Literal["max_tokens", "max_completion_tokens"] = option(
        "max_tokens", "what the server calls the limit of an answer; some hosted ones want the second"
    )
    concurrency: int = option(32, "requests under way at once, of each translator", ge=1)
    timeout: float = option(120.0, "longest wait for one answer", gt=0, unit="s")
    retries: int = option(6, "further attempts after 429, 5xx, a time-out or a lost connection", ge=0)
    backoff: float = option(1.0, "wait before the first further attempt; doubles each time", gt=0, unit="s")
    max_backoff: float = option(60.0, "longest wait between attempts, Retry-After included", gt=0, unit="s")
    body: dict[str, Any] = option({}, "further fields of every request, such as {service_tier: flex}")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https:// (given {self.url!r})")
        taken = {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "n"}
        if clash := sorted(taken & self.body.keys()):
            raise ValueError(
                f"body must not have {', '.join(clash)}: they have keys of their own, or are not supported"
            )
        return self


class VllmOptions(Section):
    """vLLM inside the job, by Ray Data LLM. Replicas are `cluster.translators`, of `cluster.translator_gpus` each."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto", "of weights and computation")
    max_num_seqs: int = option(256, "sentences that a replica works on at once", ge=1)
    batch_size: int = option(16, "sentences of one call; enough calls are under way to fill max_num_seqs", ge=1)
    max_model_len: int | None = option(
        None, "longest prompt and answer together; none: what the data needs", ge=16, unit="tokens"
    )
    timeout: float = option(
        1200.0, "longest time in which nothing moves, loading the model included; then it is an error", gt=0, unit="s"
    )
    engine: dict[str, Any] = option({}, "further arguments of vLLM's engine, such as {gpu_memory_utilization: 0.85}")

    def label_config(self) -> dict[str, Any]:
        """What of them may change a translation."""
        return {"dtype": self.dtype, **{name: value for name, value in self.engine.items() if name not in _PLACING}}


def _read(sources: dict[str, PairsOptions], source: str, target: str) -> list[Pair]:
    return list(dict.fromkeys(pair for part in sources.values() for pair in read_pairs(part, source, target)))
