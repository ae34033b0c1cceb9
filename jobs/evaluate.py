"""Model and test shards -> hypotheses (Parquet) and scores: WER and CER with intervals; BLEU and chrF against labels.

python jobs/evaluate.py model=data/asr-ka shards=data/cv-ka out=data/test-ka
"""

import json
import sys

from xlst_ray.batches.index import Source
from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import option
from xlst_ray.shards.schema import Split
from xlst_ray.stages.evaluate import EvaluateOptions, evaluate
from xlst_ray.stages.stage import Stage, finished, run_stage


class EvaluateJob(EvaluateOptions):
    """A model, test data, and the folder of the results."""

    model: str = option(..., "folder or URL of the model, from jobs/train.py")
    shards: str = option(..., "folder or URL of the shards")
    split: Split = option("test", "split to recognise")
    labels: str | None = option(None, "folder or URL of labels, where the references are translations")
    out: str = option(..., "folder or URL of the results")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")


def work(job: EvaluateJob) -> str:
    options = EvaluateOptions.model_validate({name: getattr(job, name) for name in EvaluateOptions.model_fields})
    inputs = {"model": finished(job.model).fingerprint, "shards": finished(job.shards).fingerprint}
    if job.labels is not None:
        inputs["labels"] = finished(job.labels).fingerprint
    stage = Stage("test", {**options.resolved(), "split": job.split}, inputs)
    test = Source(job.shards, job.split, job.labels)
    result = run_stage(
        stage, job.out, lambda folder: evaluate("evaluate", options, job.model, test, folder, job.cluster)
    )
    return f"{json.dumps(result.counts, indent=2, ensure_ascii=False)}\n{result.folder}"


if __name__ == "__main__":
    sys.exit(run_job(EvaluateJob, work, __doc__))
