"""Shards -> states of a frozen pretrained encoder, computed once: what jobs/train.py reads with states=.

python jobs/encode.py shards=data/cv-ka encoder.path=openai/whisper-base out=data/cv-ka-whisper
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.config import Section, Url, option
from xlst_ray.stages.encode import describe_encoding, encode
from xlst_ray.stages.stage import run_stage
from xlst_ray.stages.states import EncoderOptions


class EncodeJob(Section):
    """Shards, an encoder, and the folder of the states."""

    shards: Url = option(..., "folder or URL of the shards")
    encoder: EncoderOptions = option(EncoderOptions, "the encoder")
    out: Url = option(..., "folder or URL of the states")
    cluster: DecodingCluster = option(DecodingCluster, "where and on how many processes")


def work(job: EncodeJob) -> str:
    stage = describe_encoding(job.encoder, job.shards)
    result = run_stage(stage, job.out, lambda folder: encode("encode", job.encoder, job.shards, folder, job.cluster))
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(EncodeJob, work, __doc__))
