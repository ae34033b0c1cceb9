"""A replica of vLLM as Ray Data LLM runs it: what it is given, what it asks of the cluster, and where it runs."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import ray
import ray.data
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import ConfigError
from xlst_ray.mt.options import EngineOptions

OVERFULL: Final = 1.25  # sentences that are ready for a replica, relative to those it works on
SMALL: Final = 0.1  # CPUs of the stages beside the engine, which wait for it most of the time
STAGE: Final = "vLLMEngineStage"  # Ray's name for it


def build_engine(
    model: str,
    length: int,
    options: EngineOptions,
    cluster: ClusterOptions,
    read_answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> Any:
    """Ray Data LLM's processor: from rows with `tokenized_prompt` and `sampling_params` to what `read_answer` makes.

    Args:
        length: tokens of prompt and answer together.
    """
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # imports transformers, which takes seconds

    llm, arguments = options.vllm, engine_arguments(options, cluster, length)
    bundles = _bundles(arguments, cluster)
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=model,
            batch_size=llm.batch_size,
            max_concurrent_batches=math.ceil(OVERFULL * llm.max_num_seqs / llm.batch_size),
            concurrency=(cluster.translators, cluster.translators),  # a growing pool adds one replica a decision
            engine_kwargs=arguments,
            placement_group_config={"bundles": bundles, "strategy": "PACK"},  # in one node where they fit
            runtime_env={"env_vars": _environment(cluster)},
            should_continue_on_error=True,  # the error of one sentence is its row
            log_engine_metrics=False,
            chat_template_stage=False,  # all three are done here, sentence by sentence, with its own limit
            tokenize_stage=False,
            detokenize_stage=False,
        ),
        postprocess=read_answer,
        preprocess_map_kwargs={"num_cpus": SMALL},
        postprocess_map_kwargs={"num_cpus": SMALL},
    )
    stage = processor.get_stage_by_name(STAGE)
    place(stage.map_batches_kwargs, bundles, engine_nodes(cluster))
    # A copy: by an assignment the stage would work out anew what it asks of the cluster, from what it has given away.
    processor.stages[STAGE] = stage.model_copy(update={"fn": _without_streaming(stage.fn)})
    return processor


def _without_streaming(engine: type[Any]) -> type[Any]:
    """Ray Data LLM's engine, whose answers come once they are whole.

    It asks vLLM for what there is after every token, which nobody reads: of each sentence and token an object is made
    and a task is woken, in the one process that feeds the engine. What would turn it off (`output_kind`) is no value
    that a row could carry, so it is set on the way. `LLM.generate` sets it, too.
    """

    class Whole(engine):  # type: ignore[misc]  # known when it runs
        def __init__(self, *given: Any, **named: Any) -> None:
            from vllm.sampling_params import RequestOutputKind

            super().__init__(*given, **named)
            prepare = self.llm._prepare_llm_request

            async def prepare_whole(row: dict[str, Any]) -> Any:
                request = await prepare(row)
                request.params.output_kind = RequestOutputKind.FINAL_ONLY
                return request

            self.llm._prepare_llm_request = prepare_whole

    return Whole


def engine_arguments(options: EngineOptions, cluster: ClusterOptions, length: int) -> dict[str, Any]:
    """Of vLLM's engine, the user's included."""
    arguments: dict[str, Any] = {
        "max_model_len": length,
        "max_num_seqs": options.vllm.max_num_seqs,
        "dtype": options.vllm.dtype,
        "tensor_parallel_size": cluster.translator_shares,
        "enable_prefix_caching": True,  # prompts share their instruction and examples
        "disable_log_stats": True,
        "seed": options.sampling.seed,
    }
    if options.revision is not None:
        arguments |= {"revision": options.revision, "tokenizer_revision": options.revision}
    if cluster.translator_gpus == 0:
        arguments["enforce_eager"] = True
    return arguments | options.vllm.engine


def place(stage: dict[str, Any], bundles: list[dict[str, float]], nodes: dict[str, str]) -> None:
    """Send an engine's actors to nodes with these labels, by the arguments of its `map_batches`.

    An engine in one process asks for its bundles together, and Ray goes by the actor's own labels. One of several has a
    placement group, for whose labels Ray Data LLM has no option: its function that makes the group is replaced.
    """
    if nodes:
        stage["label_selector"] = nodes
    if "ray_remote_args_fn" in stage:
        stage["num_cpus"] = bundles[0]["CPU"]  # of the engine's actor; by default one, which need not fit the bundle
        stage["ray_remote_args_fn"] = partial(_grouped, bundles, nodes)


def _grouped(bundles: list[dict[str, float]], nodes: dict[str, str]) -> dict[str, Any]:
    group = placement_group(bundles, strategy="PACK", bundle_label_selector=[nodes] * len(bundles) if nodes else None)
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)}


def engine_nodes(cluster: ClusterOptions) -> dict[str, str]:
    """Labels of the nodes for replicas: as for every pool, those for engines where it has GPUs."""
    return cluster.nodes("engine" if cluster.translator_gpus else "data")


@contextmanager
def settings_of_data(cluster: ClusterOptions, timeout: float) -> Iterator[None]:
    """Ray Data's settings for the datasets made within, which copy them.

    Its detectors of trouble are off: that of memory calls the function that makes a replica's placement group (`place`)
    once more than there are replicas, and where GPUs are scarce the group that nobody uses keeps them.

    Args:
        timeout: seconds without progress after which it gives up.
    """
    context = ray.data.DataContext.get_current()
    usual = context.execution_no_progress_timeout_s, context.execution_options.label_selector
    detectors = context.issue_detectors_config
    context.issue_detectors_config = replace(detectors, detectors=[])
    context.execution_no_progress_timeout_s = timeout
    context.execution_options.label_selector = cluster.nodes("data") or None  # a stage's own labels go before it
    try:
        yield
    finally:
        context.execution_no_progress_timeout_s, context.execution_options.label_selector = usual
        context.issue_detectors_config = detectors


def refuse_without_room(cluster: ClusterOptions, stages: int) -> None:
    """The stages beside the replicas need processors, or all would wait for each other for ever: one for the task that
    cuts blocks, whose share cannot be set, and `SMALL` for each process of the others.

    Raises:
        ConfigError: a cluster that was started here, and does not grow, has too few.
    """
    bundles = cluster.translators * cluster.translator_shares
    beside = 1 + SMALL * stages
    there = ray.cluster_resources().get("CPU", 0.0)
    if cluster.address in (None, "local") and bundles * cluster.translator_cpus + beside > there:
        raise ConfigError(
            f"vLLM takes {bundles * cluster.translator_cpus:g} of {there:g} CPUs, and what feeds it needs {beside:g}",
            where="cluster.translator_cpus",
            hint=f"set it to {math.floor(100 * (there - beside) / bundles + 1e-6) / 100:g} or less"
            if there > beside
            else f"it needs a machine of {math.ceil(beside + SMALL * bundles)} CPUs",
        )


def replicas(cluster: ClusterOptions) -> str:
    """In words."""
    count = f"{cluster.translators} replica{'s' if cluster.translators > 1 else ''}"
    return f"{count} of {cluster.translator_shares} GPUs" if cluster.translator_gpus else f"{count} on CPUs"


def _bundles(arguments: dict[str, Any], cluster: ClusterOptions) -> list[dict[str, float]]:
    """What a replica asks of the cluster, by the processes that it is shared over."""
    each = {"CPU": cluster.translator_cpus}
    if cluster.translator_gpus:
        each["GPU"] = min(1.0, cluster.translator_gpus)
    return [each] * (arguments["tensor_parallel_size"] * arguments.get("pipeline_parallel_size", 1))


def _environment(cluster: ClusterOptions) -> dict[str, str]:
    usual = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not cluster.translator_gpus:
        usual["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB
    return {name: os.environ.get(name, value) for name, value in usual.items()}
