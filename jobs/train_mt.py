"""Parallel text -> a small translation model in an ordinary transformers folder, which any LLM engine can serve.

python jobs/train_mt.py out=data/mt-en-ka source=en target=ka pairs.mine.kind=tsv pairs.mine.path=pairs.tsv
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import LanguageCode, Seed, Url, option
from xlst_ray.mt.lm_info import LMInfo
from xlst_ray.stages.stage import Stage, fingerprint, run_stage
from xlst_ray.stages.train_mt import MTOptions, collect_pairs, train_mt


class MTJob(MTOptions):
    """Sentence pairs, a model, and its folder."""

    out: Url = option(..., "folder or URL of the model")
    source: LanguageCode = option(..., "language code to translate from")
    target: LanguageCode = option(..., "language code to translate into")
    seed: Seed = option(1, "of everything random")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")


def work(job: MTJob) -> str:
    options = MTOptions.model_validate({name: getattr(job, name) for name in MTOptions.model_fields})
    pairs, info = collect_pairs(options, job.source, job.target), LMInfo(job.source, job.target)
    stage = Stage("mt", options.training_config(job.seed, job.cluster.planned_ranks), {"pairs": fingerprint(pairs)})
    title = f"mt {job.source}-{job.target}"
    result = run_stage(
        stage, job.out, lambda folder: train_mt(title, options, pairs, info, job.seed, folder, job.cluster)
    )
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(MTJob, work, __doc__))
