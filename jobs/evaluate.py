"""Model and test shards -> hypotheses (Parquet) and scores: WER and CER with intervals; BLEU and chrF against labels.

python jobs/evaluate.py model=data/asr-ka shards=data/cv-ka out=data/test-ka
"""

import json
import sys

from xlst_ray.batches.index import Source
from xlst_ray.cli import run_job
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.config import Url, option
from xlst_ray.errors import ConfigError
from xlst_ray.shards.schema import Split
from xlst_ray.stages.evaluate import EvaluateOptions, describe_test, evaluate
from xlst_ray.stages.speech_data import labels_fingerprint
from xlst_ray.stages.stage import finished, run_stage


class EvaluateJob(EvaluateOptions):
    """A model, test data, and the folder of the results."""

    model: Url = option(..., "folder or URL of the model, from jobs/train.py")
    shards: Url = option(..., "folder or URL of the shards")
    split: Split = option("test", "split to recognise")
    labels: Url | None = option(None, "folder or URL of labels, where the references are translations")
    states: Url | None = option(None, "folder or URL of the shards' states, for a model that reads them")
    out: Url = option(..., "folder or URL of the results")
    cluster: DecodingCluster = option(DecodingCluster, "where and on how many processes")


def work(job: EvaluateJob) -> str:
    options = EvaluateOptions.model_validate({name: getattr(job, name) for name in EvaluateOptions.model_fields})
    model, shards = finished(job.model, "lang"), finished(job.shards, "corpus")
    inputs, lang = {"model": model.fingerprint, "shards": shards.fingerprint}, shards.config["corpus"]["lang"]
    if job.labels is not None:
        labels = finished(job.labels, "target")
        inputs["labels"], lang = labels_fingerprint(job.labels, job.shards), labels.config["target"]
    writes = model.config.get("writes", [model.config["lang"]])
    if lang not in writes:
        raise ConfigError(
            f"writes {', '.join(writes)}, but the references are in {lang}",
            where=job.model,
            hint=f"name labels of these shards in {' or '.join(writes)} with labels=, or a model that writes {lang}",
        )
    if job.states is not None:
        inputs["states"] = finished(job.states, "encoder").fingerprint
    stage = describe_test({**options.resolved(), "split": job.split}, inputs)
    test = Source(job.shards, job.split, job.labels, states=job.states)
    result = run_stage(
        stage, job.out, lambda folder: evaluate("evaluate", options, job.model, test, folder, job.cluster)
    )
    scores = json.dumps(result.counts, indent=2, ensure_ascii=False)
    return f"{scores}\n{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(EvaluateJob, work, __doc__))
