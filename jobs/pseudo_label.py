"""Shards -> label files beside them: transcripts translated into the target language, each distinct sentence once.

python jobs/pseudo_label.py shards=data/cv-en out=data/cv-en-ka target=ka engine.path=data/mt-en-ka
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import LanguageCode, Url, option
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import SPLITS
from xlst_ray.stages.pseudo_label import LabelOptions, describe_labels, pseudo_label
from xlst_ray.stages.stage import finished, run_stage


class LabelJob(LabelOptions):
    """Shards, an engine, and the folder of the labels."""

    shards: Url = option(..., "folder or URL of the source language's shards")
    out: Url = option(..., "folder or URL of the labels")
    target: LanguageCode = option(..., "language code to translate into")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")


def work(job: LabelJob) -> str:
    options = LabelOptions(engine=job.engine, buckets=job.buckets)
    shards = finished(job.shards, "corpus")
    source, splits = shards.config["corpus"]["lang"], tuple(split for split in SPLITS if split in shards.counts)
    if source == job.target:
        raise ConfigError(f"the speech is in {source} already", where=f"target={job.target}")
    stage = describe_labels("labels", options, source, job.target, shards.fingerprint)
    result = run_stage(
        stage,
        job.out,
        lambda folder: pseudo_label(options, job.shards, splits, source, job.target, folder, job.cluster),
    )
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(LabelJob, work, __doc__))
