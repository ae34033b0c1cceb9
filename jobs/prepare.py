"""Corpus -> shards: decode once, mono, 16 kHz, FLAC in Parquet; what cannot be used is rejected with a reason.

python jobs/prepare.py out=data/cv-ka corpus.reader=common_voice corpus.path=cv-corpus/ka corpus.lang=ka
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import TaskCluster
from xlst_ray.config import Url, option
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare
from xlst_ray.stages.stage import run_stage


class PrepareJob(PrepareOptions):
    """A corpus and the folder of its shards."""

    out: Url = option(..., "folder or URL of the shards")
    cluster: TaskCluster = option(TaskCluster, "where")


def work(job: PrepareJob) -> str:
    options = PrepareOptions(corpus=job.corpus, shards=job.shards, max_rejected=job.max_rejected)
    result = run_stage(describe_prepare(options), job.out, lambda folder: prepare(options, folder, job.cluster))
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(PrepareJob, work, __doc__))
