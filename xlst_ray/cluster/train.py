"""Training on a cluster: Ray Train runs the loop of `xlst_ray.train` on every worker, keeps checkpoints and restarts.

With no workers the same loop runs in this process.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ray.data
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer
from torch import Tensor

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import connect
from xlst_ray.cluster.stop import sigterm_calls
from xlst_ray.errors import ConfigError, TrainingError, XlstError
from xlst_ray.progress import clock, say
from xlst_ray.train.checkpoint import (
    TrainState,
    average_weights,
    best_updates,
    checkpoint_name,
    list_checkpoints,
    prune_checkpoints,
    read_state,
)
from xlst_ray.train.loop import Observer, Wish, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import Task

# Hears each validation of this call; on Ray it is pickled, and called in the process that controls the training.
OnValidation: TypeAlias = Callable[[Mapping[str, float]], None]


class TrainJob(Protocol):
    """What is trained: picklable, and able to build its task on any rank."""

    @property
    def title(self) -> str:
        """What progress lines call it."""
        ...

    @property
    def options(self) -> TrainOptions:
        """The optimisation."""
        ...

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...

    def build(self, world: World, *, streaming: bool) -> Task[Any]:
        """The task of a rank. `streaming`: batches come through Ray Data, else they are read in the process."""
        ...


@dataclass(frozen=True)
class Trained:
    """Averaged weights by parameter name, and how training went."""

    weights: dict[str, Tensor]
    state: TrainState


def run_training(
    job: TrainJob, folder: str, cluster: ClusterOptions, on_validation: OnValidation | None = None
) -> Trained:
    """Train a job, going on from what an earlier call left in `folder`, and average its checkpoints.

    Raises:
        TrainingError: the loss is no number, or workers are lost more often than `max_failures`.
        ConfigError: training without Ray into a folder that is not local.
        Stopped: without Ray, by SIGTERM, with a checkpoint of the last update.
    """
    if cluster.workers == 0:
        return _run_here(job, folder, cluster, on_validation)
    connect(cluster)
    return _run_on_ray(job, folder, cluster, on_validation)


def _run_here(job: TrainJob, folder: str, cluster: ClusterOptions, on_validation: OnValidation | None) -> Trained:
    if not storage.is_local(folder):
        raise ConfigError("training without Ray writes to a local folder", where=folder, hint="set cluster.workers=1")
    torch.set_num_threads(cluster.worker_threads)
    checkpoints = Path(storage.locate(folder)[1]) / "checkpoints"

    def keep(_: Path | None, state: TrainState) -> None:
        updates = {*best_updates(state.validations, job.options.average, job.options.average_by), state.update}
        prune_checkpoints(checkpoints, [checkpoints / checkpoint_name(update) for update in updates])
        if on_validation is not None and state.validated:
            on_validation(state.validations[-1])

    done = list_checkpoints(checkpoints)
    wishes = {"wish": Wish.GO_ON}
    observer = Observer(lambda progress: say(progress_line(job.title, progress)), keep, lambda _: wishes["wish"])
    world = World(device=_device())
    task = job.build(world, streaming=False)
    resume = done[-1] if done else None
    with sigterm_calls(lambda: wishes.update(wish=Wish.STOP)):
        state = fit(task, job.options, checkpoints, observer, seed=job.seed, world=world, resume=resume)
    return Trained(average_weights(_chosen(list_checkpoints(checkpoints), state, job.options)), state)


class _Listener(UserCallback):  # type: ignore[misc]  # Ray is untyped here
    """Passes on what rank 0 reports."""

    def __init__(self, on_validation: OnValidation) -> None:
        self._on_validation = on_validation

    def after_report(self, run_context: object, metrics: list[dict[str, float]], checkpoint: Checkpoint | None) -> None:
        self._on_validation(metrics[0])


def _run_on_ray(job: TrainJob, folder: str, cluster: ClusterOptions, on_validation: OnValidation | None) -> Trained:
    by = job.options.average_by
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "cluster": cluster},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.worker_gpus > 0,
            resources_per_worker={"CPU": cluster.worker_cpus}
            | ({"GPU": cluster.worker_gpus} if cluster.worker_gpus else {}),
            label_selector=cluster.nodes("train") or None,
        ),
        run_config=RunConfig(
            # The folder carries the fingerprint of the configuration, so the same name is the same run, to be resumed.
            name="checkpoints",
            storage_path=folder if "://" in folder else storage.locate(folder)[1],
            logging_config=LoggingConfig(log_level="WARNING"),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            callbacks=[] if on_validation is None else [_Listener(on_validation)],
            checkpoint_config=CheckpointConfig(
                num_to_keep=job.options.average,
                checkpoint_score_attribute=None if by == "last" else by,
                checkpoint_score_order="min" if by == "loss" else "max",
            ),
        ),
    )
    result = _fit_on_ray(trainer, job)
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        local = [_fetch(checkpoint, Path(temporary)) for checkpoint, _ in result.best_checkpoints]
        state = max((read_state(path) for path in local), key=lambda found: found.update)
        return Trained(average_weights(_chosen(local, state, job.options)), state)


def _fit_on_ray(trainer: TorchTrainer, job: TrainJob) -> Any:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        causes = getattr(error, "worker_failures", {})
        for cause in causes.values():
            if isinstance(cause, XlstError):
                raise cause from None
        raise TrainingError(f"{job.title}: training failed on the cluster ({error})") from error


def _worker(config: dict[str, Any]) -> None:
    """The body of every Ray Train worker."""
    job: TrainJob = config["job"]
    cluster: ClusterOptions = config["cluster"]
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train tells of every report at INFO
    context = ray.train.get_context()
    torch.set_num_threads(cluster.worker_threads)
    ray.data.DataContext.get_current().execution_options.label_selector = cluster.nodes("data") or None
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    start = ray.train.get_checkpoint()

    def report(path: Path | None, state: TrainState) -> None:
        ray.train.report(
            dict(state.validations[-1]),
            checkpoint=None if path is None else Checkpoint.from_directory(path),
            checkpoint_dir_name=checkpoint_name(state.update),
            delete_local_checkpoint_after_upload=True,
        )

    observer = Observer(lambda progress: say(progress_line(job.title, progress)), report)
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        resume = None if start is None else _fetch(start, Path(temporary) / "resume")
        task = job.build(world, streaming=True)
        fit(task, job.options, Path(temporary), observer, seed=job.seed, world=world, resume=resume)


def _fetch(checkpoint: Checkpoint, folder: Path) -> Path:
    return Path(checkpoint.to_directory(folder / Path(checkpoint.path).name))


def _chosen(checkpoints: Sequence[Path], state: TrainState, options: TrainOptions) -> list[Path]:
    """The checkpoints to average, of those that are there."""
    by_update = {read_state(path).update: path for path in checkpoints}
    there = [entry for entry in state.validations if entry["update"] in by_update]
    return [by_update[update] for update in best_updates(there, options.average, options.average_by)]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def progress_line(title: str, progress: Progress) -> str:
    """One line: how far, the losses, what became of the time and of the work, how long to go."""
    logs = "  ".join(f"{name} {value:.3f}" for name, value in progress.logs.items())
    audio = f"  {progress.audio_rate:.1f} h of audio/h on each device" if progress.audio_rate else ""
    return (
        f"{title}  update {progress.update}/{progress.updates}  {logs}  lr {progress.lr:.2e}"
        f"  waiting for data {progress.waiting:.0%}  padding {progress.padding:.1%}{audio}"
        f"  to go {clock(progress.remaining)}"
    )
