"""Training on a cluster: Ray Train runs the loop of `xlst_ray.train` on every worker, keeps checkpoints and restarts.

With no workers the same loop runs in this process.
"""

import logging
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ray.data
import ray.train
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchTrainer
from torch import Tensor

from xlst_ray import storage
from xlst_ray.cluster import metrics
from xlst_ray.cluster.boards import boards_of
from xlst_ray.cluster.nodes import refuse_unseen
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import connect
from xlst_ray.cluster.snapshot import copy_list, mend_list, remove_unlisted
from xlst_ray.cluster.stop import StopFlag, Wishes, stop_calls
from xlst_ray.errors import ConfigError, Stopped, TrainingError, XlstError
from xlst_ray.progress import clock, place, say, take_place
from xlst_ray.train.board import Board, watch
from xlst_ray.train.checkpoint import (
    TrainState,
    average_weights,
    best_updates,
    checkpoint_name,
    list_checkpoints,
    prune_checkpoints,
    read_state,
)
from xlst_ray.train.guard import FOLDER as NOT_FINITE
from xlst_ray.train.loop import Observer, Wish, fit
from xlst_ray.train.meter import Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.step import World
from xlst_ray.train.task import Task
from xlst_ray.train.tracking import refuse_without_mlflow

CHECKPOINTS = "checkpoints"  # folder of a training
SECONDS_TO_GROW = 60.0  # between two looks whether lost processes may be replaced: growing costs a restart
INTERRUPTED = "interrupted"  # key of a report that comes with a checkpoint and without a validation

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
        XlstError: what a worker raised; it is not tried again.
        TrainingError: workers are lost more often than `max_failures`.
        ConfigError: training without Ray into a folder that is not local, or on nodes that do not see it.
        Stopped: by SIGTERM, with a checkpoint of the last update.
    """
    if cluster.mlflow is not None:
        refuse_without_mlflow()
    if cluster.workers == 0:
        return _run_here(job, folder, cluster, on_validation)
    if job.options.parallel == "fsdp" and cluster.min_workers is not None:
        raise ConfigError(
            "processes that share one model out do not go on with fewer of them",
            where="cluster.min_workers",
            hint="leave it out, or set train.parallel=ddp",
        )
    connect(cluster)
    refuse_unseen(folder)
    return _run_on_ray(job, folder, cluster, on_validation)


def _run_here(job: TrainJob, folder: str, cluster: ClusterOptions, on_validation: OnValidation | None) -> Trained:
    if not storage.is_local(folder):
        raise ConfigError("training without Ray writes to a local folder", where=folder, hint="set cluster.workers=1")
    torch.set_num_threads(cluster.worker_threads)
    checkpoints = Path(storage.locate(folder)[1]) / CHECKPOINTS

    def keep(_: Path | None, state: TrainState) -> None:
        updates = {*best_updates(state.validations, job.options.average, job.options.average_by), state.update}
        prune_checkpoints(checkpoints, [checkpoints / checkpoint_name(update) for update in updates])
        _tell_validation(job, state)
        if on_validation is not None and state.validated:
            on_validation(state.validations[-1])

    done = list_checkpoints(checkpoints)
    wishes = {"wish": Wish.GO_ON}
    tell = partial(_tell, job.title)
    observer = Observer(tell, keep, lambda _: wishes["wish"], partial(_keep_dump, folder))
    world = World(device=this_device(), ranks=cluster.planned_ranks)
    task = job.build(world, streaming=False)
    resume = done[-1] if done else None
    if resume is not None and on_validation is not None:
        for validation in read_state(resume).validations:
            on_validation(validation)  # who heard of the last one may have been killed before it was written down
    boards = boards_of(folder, checkpoints.parent, _update_of(resume), cluster.mlflow, _told(job))
    try:
        with stop_calls(lambda: wishes.update(wish=Wish.STOP)), boards as shown:
            watched = watch(observer, task, shown)
            state = fit(task, job.options, checkpoints, watched, seed=job.seed, world=world, resume=resume)
    except OSError as error:
        raise _no_space(error, folder) or error from None
    return Trained(average_weights(_chosen(list_checkpoints(checkpoints), state, job.options)), state)


class _Listener(UserCallback):  # type: ignore[misc]  # Ray is untyped here
    """Passes on what rank 0 reports, tells of lost processes, and ends at an error that each further try would meet."""

    def __init__(self, title: str, folder: str, on_validation: OnValidation | None) -> None:
        self._title, self._folder, self._on_validation, self._place = title, folder, on_validation, place()

    def after_report(self, run_context: object, metrics: list[dict[str, float]], checkpoint: Checkpoint | None) -> None:
        copy_list(storage.join(self._folder, CHECKPOINTS))
        if self._on_validation is not None and INTERRUPTED not in metrics[0]:
            self._on_validation(metrics[0])

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        if found := _our_error(worker_exceptions.values(), self._folder):
            raise ray.train.ControllerError(found)  # which Ray Train does not try again
        take_place(self._place)  # this is the process that controls the workers
        causes = ", ".join(sorted({type(error).__name__ for error in worker_exceptions.values()}))
        say(f"{self._title}: {len(worker_exceptions)} training processes were lost ({causes})")


class _Trainer(TorchTrainer):  # type: ignore[misc]  # Ray is untyped here
    """Ray's, in which Ctrl-C does what we make of it: Ray's own handler ends the workers without a checkpoint."""

    def _register_sigint_handler(self, controller: object) -> None:
        pass


def _run_on_ray(job: TrainJob, folder: str, cluster: ClusterOptions, on_validation: OnValidation | None) -> Trained:
    flag = StopFlag()
    trainer = _Trainer(
        _worker,
        train_loop_config={"job": job, "cluster": cluster, "flag": flag, "place": place(), "folder": folder},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers if cluster.min_workers is None else (cluster.min_workers, cluster.workers),
            elastic_resize_monitor_interval_s=SECONDS_TO_GROW,
            use_gpu=cluster.worker_gpus > 0,
            resources_per_worker={"CPU": cluster.worker_cpus}
            | ({"GPU": cluster.worker_gpus} if cluster.worker_gpus else {}),
            label_selector=cluster.nodes("train") or None,
        ),
        run_config=RunConfig(
            # The folder carries the fingerprint of the configuration, so the same name is the same run, to be resumed.
            name=CHECKPOINTS,
            storage_path=folder if "://" in folder else storage.locate(folder)[1],
            logging_config=LoggingConfig(log_level="WARNING"),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=job.options.average,
                checkpoint_score_attribute=_score(job.options),
                checkpoint_score_order="min" if job.options.average_by == "loss" else "max",
            ),
            callbacks=[_Listener(job.title, folder, on_validation)],
        ),
    )
    checkpoints = storage.join(folder, CHECKPOINTS)
    mend_list(checkpoints)
    if job.options.parallel == "fsdp":  # others are written over as a whole
        remove_unlisted(checkpoints)
    result = _fit_on_ray(trainer, job, flag, folder)
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        local = [_fetch(checkpoint, Path(temporary)) for checkpoint, _ in result.best_checkpoints]
        state = max((read_state(path) for path in local), key=lambda found: found.update)
        return Trained(average_weights(_chosen(local, state, job.options)), state)


def _our_error(errors: Iterable[BaseException | None], folder: str) -> XlstError | None:
    """The first of ours, or that says of a full disk, among errors and what caused them."""
    for error in errors:
        while error is not None:
            if isinstance(error, XlstError):
                return error
            if full := _no_space(error, folder):
                return full
            error = getattr(error, "cause", None) or error.__cause__  # Ray's task errors carry it as `cause`
    return None


def _fit_on_ray(trainer: TorchTrainer, job: TrainJob, flag: StopFlag, folder: str) -> Any:
    try:
        with stop_calls(flag.raise_it):
            result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        causes = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
        if found := _our_error(causes, folder):
            raise _as_it_was(found) from None
        raise TrainingError(f"{job.title}: training failed on the cluster ({error})") from error
    if flag.is_raised():
        raise Stopped
    return result


def _as_it_was(error: XlstError) -> XlstError:
    """The error by its own class: Ray makes classes of its own for errors that cross processes."""
    kind: type[XlstError] = next(kind for kind in type(error).__mro__ if kind.__module__ == XlstError.__module__)
    return kind(error.what, where=error.where, hint=error.hint)


def _worker(config: dict[str, Any]) -> None:
    """The body of every Ray Train worker."""
    job: TrainJob = config["job"]
    cluster: ClusterOptions = config["cluster"]
    take_place(config["place"])
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train tells of every report at INFO
    context = ray.train.get_context()
    torch.set_num_threads(cluster.worker_threads)
    data = ray.data.DataContext.get_current()
    data.execution_options.label_selector = cluster.nodes("data") or None
    data.raise_original_map_exception = True  # an error of ours in a loader is known as such
    device = ray.train.torch.get_device()
    world = World(context.get_world_rank(), context.get_world_size(), device, ranks=cluster.planned_ranks)
    saved = ray.train.get_checkpoint()

    def report(path: Path | None, state: TrainState) -> None:
        if world.rank == 0:
            _tell_validation(job, state)
        _wait_for_uploads()  # of the checkpoint before: the disk holds no more than one that waits
        ray.train.report(
            _finite(state.validations[-1]) if state.validated else _worst(job.options),
            checkpoint=None if path is None else Checkpoint.from_directory(path),
            checkpoint_dir_name=checkpoint_name(state.update),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,  # training goes on meanwhile
            delete_local_checkpoint_after_upload=True,
        )

    wishes = Wishes(config["flag"], world.rank, job.title)
    observer = Observer(partial(_tell, job.title), report, wishes, partial(_keep_dump, config["folder"]))
    with tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary, suppress(Stopped):
        resume = None if saved is None else _fetch(saved, Path(temporary) / "resume")
        if resume is not None and world.rank == 0:
            say(f"{job.title}: goes on from update {read_state(resume).update} with {world.size} processes")
        task = job.build(world, streaming=True)
        here = Path(temporary)
        boards: AbstractContextManager[list[Board]] = nullcontext([])
        if world.rank == 0:
            boards = boards_of(config["folder"], here, _update_of(resume), cluster.mlflow, _told(job))
        with boards as shown, _uploads():
            # What a model says cannot be asked on one rank alone where others have parts of it.
            watched = watch(observer, None if job.options.parallel == "fsdp" else task, shown)
            fit(task, job.options, here, watched, seed=job.seed, world=world, resume=resume)


@contextmanager
def _uploads() -> Iterator[None]:
    """At the end of the block all checkpoints are in the storage."""
    try:
        yield
    finally:
        _wait_for_uploads()


def _wait_for_uploads() -> None:
    """Until all that was reported is in the storage, of all ranks, and known there."""
    ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)


def _keep_dump(folder: str, found: Path) -> str:
    """Brings what a failed update left to the folder of the training."""
    place = storage.join(folder, NOT_FINITE, found.name)
    storage.copy_folder(str(found), place)
    return place


def _told(job: TrainJob) -> dict[str, object]:
    return {"title": job.title, "seed": job.seed, **job.options.model_dump()}


def _update_of(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else read_state(checkpoint).update


def _score(options: TrainOptions) -> str:
    """What Ray Train orders checkpoints by: the best ones are kept, and the newest one."""
    return "update" if options.average_by == "last" else options.average_by


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as Ray can keep them: its list of checkpoints is JSON, which makes null of an infinite loss."""
    return {name: value if math.isfinite(value) else sys.float_info.max for name, value in scores.items()}


def _worst(options: TrainOptions) -> dict[str, float]:
    """The score of a checkpoint without a validation: it is resumed from, and gone once there is a newer one."""
    worst = sys.float_info.max if options.average_by == "loss" else -sys.float_info.max
    return {_score(options): worst, INTERRUPTED: 1.0}


def _fetch(checkpoint: Checkpoint, folder: Path) -> Path:
    return Path(checkpoint.to_directory(folder / Path(checkpoint.path).name))


def _chosen(checkpoints: Sequence[Path], state: TrainState, options: TrainOptions) -> list[Path]:
    """The checkpoints to average, of those that are there."""
    by_update = {read_state(path).update: path for path in checkpoints}
    there = [entry for entry in state.validations if entry["update"] in by_update]
    return [by_update[update] for update in best_updates(there, options.average, options.average_by)]


def this_device() -> torch.device:
    """Where a process of its own computes."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _tell(title: str, progress: Progress) -> None:
    say(progress_line(title, progress))
    metrics.count("tokens", progress.tokens)
    metrics.count("data_wait_seconds", progress.waited)


def _tell_validation(job: TrainJob, state: TrainState) -> None:
    """A line with the scores of the development set, where this update was validated."""
    if state.validated:
        found = dict(state.validations[-1])
        update = round(found.pop("update"))
        scores = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
        say(f"{job.title}  update {update}/{job.options.updates}  on the development set: {scores}")


def progress_line(title: str, progress: Progress) -> str:
    """One line: how far, the losses, what became of the time and of the work, how long to go."""
    logs = "  ".join(f"{name} {value:.3f}" for name, value in progress.logs.items())
    audio = f"  {progress.audio_rate:.1f} h of audio/h on each device" if progress.audio_rate else ""
    share = "" if progress.peak_share is None else f" ({progress.peak_share:.1%} of the peak)"
    flops = f"  {progress.flops / 1e12:.3g} TFLOP/s{share}" if progress.flops else ""
    return (
        f"{title}  update {progress.update}/{progress.updates}  {logs}  lr {progress.lr:.2e}"
        f"  waiting for data {progress.waiting:.0%}  padding {progress.padding:.1%}{audio}{flops}"
        f"  to go {clock(progress.remaining)}"
    )


def _no_space(error: BaseException, folder: str) -> TrainingError | None:
    """A full disk, whoever wrote, as an error that no further try mends; none for other errors."""
    if not isinstance(error, OSError) or error.errno not in storage.NO_SPACE:
        return None
    hint = "make space and run the same command: it goes on from its last checkpoint"
    return TrainingError(f"no space is left ({error})", where=folder, hint=hint)
