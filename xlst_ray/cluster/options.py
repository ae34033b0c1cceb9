"""Where the work runs, and on how many processes of which size."""

import math
from typing import Literal
from urllib.parse import urlsplit

from pydantic import model_validator

from xlst_ray.config import Section, option

ROLE_LABEL = "xlst-role"  # of Ray nodes, as cluster.yaml and deploy/ set it
Role = Literal["data", "engine", "train"]


class PlaceOptions(Section):
    """The cluster that work runs on."""

    address: str | None = option(
        None,
        "Ray cluster to join (`auto`, `ray://...`); `local`: start one here; none: $RAY_ADDRESS if set, else local",
    )
    by_role: bool = option(
        False,
        f"send work to nodes by their label {ROLE_LABEL}: data (reading, decoding, features, and all work of pools "
        "without GPUs), engine (pools with GPUs: translation, recognition), train; off: to any node",
    )
    cpus: int | None = option(None, "processors of a cluster started here; none: all there are", unit="CPUs", ge=1)

    def nodes(self, role: Role) -> dict[str, str]:
        """Ray's label selector of the nodes for a kind of work; empty: any node."""
        return {ROLE_LABEL: role} if self.by_role else {}

    def requests(self) -> dict[str, tuple[str, float]]:
        """What processes that live long ask for: the product, as a message shows it -> Ray's resource, how much."""
        return {}


class TaskCluster(PlaceOptions):
    """Where tasks run that decode and look at recordings."""

    workers: int = option(1, "0: in the job's own process, without Ray; else tasks, as many as there are CPUs", ge=0)


class DecodingCluster(PlaceOptions):
    """Where speech models run that do not train."""

    decoders: int = option(1, "processes with the model, on recordings or shards; 0: the job's own, without Ray", ge=0)
    decoder_cpus: float = option(1.0, "of each of them", unit="CPUs", gt=0)
    decoder_gpus: float = option(0.0, "of each of them", unit="GPUs", ge=0)

    def requests(self) -> dict[str, tuple[str, float]]:
        return {
            "decoders x decoder_cpus": ("CPU", self.decoders * self.decoder_cpus),
            "decoders x decoder_gpus": ("GPU", self.decoders * self.decoder_gpus),
        }


class ClusterOptions(DecodingCluster, TaskCluster):
    """Logical resources of each kind of process; Ray places them. The same jobs run on a laptop and on a cluster."""

    workers: int = option(
        1, "training processes; 0: train, and prepare corpora, in the job's own process, without Ray", ge=0
    )
    min_workers: int | None = option(
        None,
        "training goes on with as few processes while nodes are lost, and grows again to `workers`; none: it waits",
        ge=1,
    )
    ranks: int | None = option(
        None,
        "shares of each update's batches, part of what is trained; a process does one or several; none: one for each "
        "of `workers`. So a training of 8 goes on with workers=4 ranks=8",
        ge=1,
    )
    worker_cpus: float = option(0.75, "of each training process", unit="CPUs", gt=0)
    worker_gpus: float = option(0.0, "of each training process", unit="GPUs", ge=0)
    worker_threads: int = option(1, "torch threads of each training process on CPUs", ge=1)
    loader_cpus: float = option(
        0.25,
        "of the data loader beside each training process, which has a thread for each whole one",
        unit="CPUs",
        gt=0,
    )
    max_failures: int = option(3, "times that training restarts from its last checkpoint after a lost worker", ge=0)
    mlflow: str | None = option(
        None,
        "MLflow server (`http://host:5000`) that training logs to beside TensorBoard's files, as runs of the "
        "experiment xlst_ray (extra `mlflow`); its keys come from the environment (MLFLOW_TRACKING_TOKEN ...)",
    )
    translators: int = option(1, "processes that translate; 0: the job's own, without Ray", ge=0)
    translator_cpus: float = option(1.0, "of each of them", unit="CPUs", gt=0)
    translator_gpus: float = option(0.0, "of each of them", unit="GPUs", ge=0)

    @model_validator(mode="after")
    def _check(self) -> "ClusterOptions":
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers ({self.min_workers}) is above workers ({self.workers})")
        if self.mlflow is not None and "@" in urlsplit(self.mlflow).netloc:
            raise ValueError("mlflow is an address without name and password: MLFLOW_TRACKING_USERNAME, ..._PASSWORD")
        if self.ranks is not None and self.ranks < self.workers:
            raise ValueError(f"ranks ({self.ranks}) leave nothing to do for some of {self.workers} workers")
        return self

    @property
    def planned_ranks(self) -> int:
        """Shares of each update's batches. Its size grows with them, so they are part of what is trained."""
        return self.ranks or max(1, self.workers)

    @property
    def translator_shares(self) -> int:
        """Processes that a translator's model may be shared over: one for each of its GPUs, or one without."""
        return max(1, math.ceil(self.translator_gpus))

    @property
    def translate_on_gpu(self) -> bool:
        """Whether a translator uses a GPU: the one that Ray gave it, or in the job's own process any."""
        return self.translator_gpus > 0 or self.translators == 0

    def requests(self) -> dict[str, tuple[str, float]]:
        return {
            "workers x (worker_cpus + loader_cpus)": ("CPU", self.workers * (self.worker_cpus + self.loader_cpus)),
            "workers x worker_gpus": ("GPU", self.workers * self.worker_gpus),
            **super().requests(),
            "translators x translator_cpus": ("CPU", self.translators * self.translator_cpus),
            "translators x translator_gpus": ("GPU", self.translators * self.translator_gpus),
        }
