"""A language model inside the job: vLLM by Ray Data LLM, fed without pause, its answers kept portion by portion.

    read -> prompts as tokens -> engine replicas -> answers read -> kept

One dataset runs through all buckets, so that the engine never waits at a bucket's end. Answers come back in any order;
`_Keeper` puts the portions together again and hands each to `LlmWork.keep` as soon as it is whole: what a kill loses is
what was under way. The driver sees counts alone. `xlst_ray.cluster.llm_engine` has what depends on the versions of
Ray Data LLM and vLLM.
"""

import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Final, Protocol

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy

from xlst_ray.cluster.llm_engine import SMALL, build_engine, refuse_without_room, replicas, settings_of_data
from xlst_ray.cluster.llm_errors import cause, listening
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.pool import map_items, raised, rebuild
from xlst_ray.cluster.session import connect
from xlst_ray.errors import ConfigError, TranslationError, XlstError
from xlst_ray.mt.encode import Encoder, load_encoder
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.specification import Specification
from xlst_ray.progress import say

PORTION: Final = 2048  # sentences that are kept together, for each `REPLICAS_A_PORTION`: one process writes them all
BATCHES_A_BLOCK: Final = 4
LONGEST_OF_A_BUCKET: Final = 64  # sentences whose tokens are counted for max_model_len
LENGTH_MARGIN: Final = 1.25
MULTIPLE: Final = 16  # of max_model_len
REPLICAS_A_READER: Final = 8
REPLICAS_A_PORTION: Final = 64
WARM_UP: Final = -1  # number of the item that asks for one token, to see that the engine works
RESULT: Final = pa.schema([("result", pa.string()), ("error", pa.string()), ("ready", pa.bool_())])


class LlmWork(Protocol):
    """What a bucket is to its caller. Picklable; called on the workers. Items are JSON values."""

    def load(self, item: Any) -> Sequence[str]:
        """The sentences to translate."""
        ...

    def specification(self, item: Any) -> Specification:
        """How they are asked for."""
        ...

    def keep(self, item: Any, texts: Sequence[str], results: Sequence[Translation]) -> Any:
        """Keep the translations of a part of the bucket, whole or not at all; returns a JSON value for the driver."""
        ...


def translate_with_llm(
    title: str, items: Sequence[Any], work: LlmWork, options: EngineOptions, cluster: ClusterOptions
) -> Iterator[tuple[Any, float]]:
    """Translate buckets by `cluster.translators` replicas of `cluster.translator_gpus` GPUs each.

    Yields:
        What `work.keep` returned, portion by portion, in any order, and the seconds since the portion before (first:
        since the engine answered) times the replicas.

    Raises:
        ConfigError: see `refuse_unfit`; or the replicas leave no processor.
        DataError: the model's folder is damaged.
        TranslationError: the engine does not start (as where the model does not fit), or stops answering.
        XlstError: what `work` raised.
    """
    if not items:
        return
    refuse_unfit(options, cluster, [work.specification(items[0])])
    model = options.model or options.model_folder()
    encoder = _encoder(model, options.revision)
    connect(cluster)
    refuse_without_room(cluster, _readers(cluster) + len(("preprocess", "postprocess", "keeper")))
    length = options.vllm.max_model_len or _longest(title, items, work, options, cluster)
    if encoder.most is not None:
        length = min(length, encoder.most)
    with settings_of_data(cluster, options.vllm.timeout):
        dataset = _pipeline(items, work, options, cluster, model, length)
    say(f"{title}: starting vLLM, {replicas(cluster)}, for at most {length} tokens of prompt and answer together")
    yield from _portions(title, _rows(dataset, options), cluster.translators)


def _portions(title: str, rows: Iterable[dict[str, Any]], engines: int) -> Iterator[tuple[Any, float]]:
    """What `translate_with_llm` yields. Answers come in any order: a portion may be whole before the first sentence is
    answered, with which the engine is to show that it works, and its time is not that of the engine's start."""
    before, ready = time.monotonic(), False
    for row in rows:
        now = time.monotonic()
        if row["error"]:
            raise rebuild(row["error"])
        if not ready and (row["ready"] or row["result"]):
            say(f"{title}: vLLM is ready after {now - before:.0f} s")
            before, ready = now, True
        if row["result"]:
            yield json.loads(row["result"]), (now - before) * engines
            before = now


def _pipeline(
    items: Sequence[Any],
    work: LlmWork,
    options: EngineOptions,
    cluster: ClusterOptions,
    model: str,
    length: int,
) -> Any:
    llm, read = options.vllm, partial(_read_answer, items, work, _encoder(model, options.revision).ends)
    processor = build_engine(model, length, options, cluster, read)
    rows = [{"number": number} for number in (WARM_UP, *range(len(items)))]
    sentences = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Prompts,
        fn_constructor_args=(items, work, model, options.revision, length, _portion(cluster)),
        batch_size=1,
        num_cpus=SMALL,
        compute=ActorPoolStrategy(size=_readers(cluster)),
    )
    blocks = sentences.repartition(target_num_rows_per_block=BATCHES_A_BLOCK * llm.batch_size)
    return processor(blocks).map_batches(
        _Keeper,
        fn_constructor_args=(items, work),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=SMALL,
        compute=ActorPoolStrategy(size=1),  # one, for the parts of a portion must meet
    )


def _rows(dataset: Any, options: EngineOptions) -> Iterator[dict[str, Any]]:
    heard: list[str] = []
    try:
        with listening(heard):
            yield from dataset.iter_rows()
    except XlstError:
        raise
    except Exception as error:  # Ray's errors are of many kinds, and carry vLLM's as text
        told = str(error)
        if "made no progress" in told:
            raise TranslationError(
                f"vLLM gave no answer for {options.vllm.timeout:g} s",
                where=options.model or options.path,
                hint="does the model fit? Ray's logs (/tmp/ray/session_latest/logs) tell; or raise vllm.timeout",
            ) from error
        raise TranslationError(
            f"vLLM failed ({cause(told, heard)})",
            where=options.model or options.path,
            hint="if memory is short: more GPUs a replica, a smaller vllm.max_num_seqs, or vllm.engine options",
        ) from error


def _readers(cluster: ClusterOptions) -> int:
    return math.ceil(cluster.translators / REPLICAS_A_READER)


def _portion(cluster: ClusterOptions) -> int:
    """Sentences that are kept together: more with more replicas, so that writing them never becomes the limit."""
    return PORTION * math.ceil(cluster.translators / REPLICAS_A_PORTION)


def refuse_unfit(options: EngineOptions, cluster: ClusterOptions, asked: Iterable[Specification]) -> None:
    """See what can be seen before any work: that vLLM is there, and that the model can be asked in these ways.

    Raises:
        ConfigError: vLLM is not installed, no replica is asked for, or the model lacks a chat template.
        DataError: the model's folder has no tokenizer.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "engine vllm needs vLLM, which is not installed here",
            hint="pip install -e '.[vllm]' on a machine with GPUs; on CPUs see make test-vllm",
        )
    if cluster.translators < 1:
        raise ConfigError("engine vllm runs on Ray: it needs a replica", hint="set cluster.translators to 1 or more")
    encoder = _encoder(options.model or options.model_folder(), options.revision)
    for specification in asked:
        encoder.encode(specification, "1")


def _longest(title: str, items: Sequence[Any], work: LlmWork, options: EngineOptions, cluster: ClusterOptions) -> int:
    """Tokens that the longest prompt and answer together may have: counted for each bucket's longest sentences, and
    some more, for those with the most letters need not have the most tokens."""
    measure = partial(_measurer, work, options.model or options.model_folder(), options.revision)
    longest: int = max(map_items(f"{title}, lengths", "buckets", measure, items, cluster))
    return math.ceil(LENGTH_MARGIN * longest / MULTIPLE) * MULTIPLE


def _measurer(work: LlmWork, model: str, revision: str | None) -> Callable[[Any], int]:
    encoder = _encoder(model, revision)

    def measure(item: Any) -> int:
        specification = work.specification(item)
        longest = sorted(work.load(item), key=len)[-LONGEST_OF_A_BUCKET:]
        return max(
            (len(encoder.encode(specification, text)) + specification.max_tokens(text) for text in longest), default=0
        )

    return measure


@cache
def _encoder(model: str, revision: str | None) -> Encoder:
    return load_encoder(model, revision)


class _Prompts:
    """Reads buckets and makes the engine's rows: the body of an actor."""

    def __init__(
        self, items: Sequence[Any], work: LlmWork, model: str, revision: str | None, length: int, portion: int
    ) -> None:
        self._items, self._work, self._length, self._portion = items, work, length, portion
        self._encoder = load_encoder(model, revision)

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        for number in (int(number) for number in batch["number"]):
            item = self._items[max(number, 0)]
            specification = self._work.specification(item)
            texts = list(self._work.load(item)) if number != WARM_UP else ["1"]
            for start in range(0, len(texts), self._portion):
                part = texts[start : start + self._portion]
                made = [self._row(specification, text, warm_up=number == WARM_UP) for text in part]
                keys = {"number": number, "start": start, "portion": len(part)}
                yield pa.Table.from_pylist(
                    [
                        {**keys, "place": place, "text": text, **row}
                        for place, (text, row) in enumerate(zip(part, made, strict=True))
                    ]
                )

    def _row(self, specification: Specification, text: str, *, warm_up: bool) -> dict[str, Any]:
        tokens = self._encoder.encode(specification, text)
        room = self._length - len(tokens)
        limit = 1 if warm_up else max(1, min(room, specification.max_tokens(text)))
        sampling: dict[str, Any] = {
            "temperature": specification.sampling.temperature,
            "top_p": specification.sampling.top_p,
            "seed": specification.sampling.seed,
            "max_tokens": limit,
        }
        if specification.template.stop:
            sampling["stop"] = list(specification.template.stop)
        # One that is too long passes through the engine as a single token, so that its portion becomes whole.
        fits = room > 0
        prompt = tokens if fits else tokens[:1]
        # The engine's stage takes the last two columns out.
        return {"fits": fits, "limit": limit, "tokenized_prompt": prompt, "sampling_params": sampling}


def _read_answer(items: Sequence[Any], work: LlmWork, ends: frozenset[int], row: dict[str, Any]) -> dict[str, Any]:
    """A row of the engine -> a row of `_Keeper`."""
    written = [int(token) for token in row["generated_tokens"]]
    finished = len(written) < row["limit"] or (bool(written) and written[-1] in ends)
    specification = work.specification(items[max(int(row["number"]), 0)])
    if row["fits"]:
        result = specification.read(row["text"], row["generated_text"], finished=finished)
    else:
        result = Translation(None, "error", "source too long")
    return {
        **{name: row[name] for name in ("number", "start", "portion", "place", "text")},
        "translation": result.text,
        "status": result.status,
        "error": result.error,
        "input_tokens": int(row["num_input_tokens"]) if row["fits"] else 0,
        "output_tokens": len(written) if row["fits"] else 0,
    }


class _Keeper:
    """Puts portions together from rows in any order, and keeps each when it is whole: the body of an actor."""

    def __init__(self, items: Sequence[Any], work: LlmWork) -> None:
        self._items, self._work = items, work
        self._parts: dict[tuple[int, int], dict[int, tuple[str, Translation]]] = {}

    def __call__(self, table: pa.Table) -> pa.Table:
        results, errors, ready = [], [], False
        for row in table.to_pylist():
            if row["number"] == WARM_UP:
                ready = True
                continue
            key = (row["number"], row["start"])
            part = self._parts.setdefault(key, {})
            part[row["place"]] = (row["text"], _translation(row))
            if len(part) == row["portion"]:
                whole = self._parts.pop(key)
                texts, found = zip(*(whole[place] for place in sorted(whole)), strict=True)
                try:
                    results.append(json.dumps(self._work.keep(self._items[key[0]], texts, found)))
                except XlstError as error:
                    errors.append(raised(error))
        rows = [{"result": result, "error": None, "ready": False} for result in results]
        rows += [{"result": None, "error": error, "ready": False} for error in errors]
        # A row for every block, finished portions or not: rows that come are what shows that the engine is alive.
        return pa.Table.from_pylist([*rows, {"result": None, "error": None, "ready": ready}], schema=RESULT)


def _translation(row: dict[str, Any]) -> Translation:
    if row.get("__inference_error__"):
        return Translation(None, "error", f"engine: {str(row['__inference_error__']).splitlines()[0][:160]}")
    return Translation(row["translation"], row["status"], row["error"], row["input_tokens"], row["output_tokens"])
