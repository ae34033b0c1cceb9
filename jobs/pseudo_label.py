"""Shards -> label files beside them, in one target language or many; each distinct sentence is translated once.

python jobs/pseudo_label.py shards=data/cv-en out=data/cv-en-ka target=ka engine.path=data/mt-en-ka
"""

import sys
from typing import Self

from pydantic import model_validator

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import LanguageCodes, Url, option
from xlst_ray.mt.quality import QualityOptions
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling
from xlst_ray.stages.score_labels import score_and_report
from xlst_ray.text.keep import KeepOptions


class LabelJob(LabelOptions):
    """Shards, an engine, and the folder of the labels."""

    shards: Url = option(..., "folder or URL of the source language's shards")
    out: Url = option(..., "folder or URL of the labels; of several targets: of a folder for each, named by its code")
    target: LanguageCodes = option(..., "language code to translate into; several as [ka,fi]", min_length=1)
    cache: Url | None = option(None, "folder of translations, found by later runs; none: translations, beside out")
    retry_errors: bool = option(False, "try what has failed once more, and replace the label files that change")
    dry_run: bool = option(False, "write no labels: tell what is left to translate, and by a sample what it may take")
    limit: int = option(0, "sentences that a dry run translates as its sample; they are kept", unit="sentences", ge=0)
    scores: bool = option(True, "score the translations, beside the labels, and write the page labels.html")
    quality: QualityOptions = option(QualityOptions, "a model that estimates their quality without a reference")
    keep: KeepOptions = option(KeepOptions, "thresholds for the page; training has its own, by the same names")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.limit and not self.dry_run:
            raise ValueError("limit is the sample of a dry run: add dry_run=true")
        if self.quality.path and not self.scores:
            raise ValueError("quality.path is for scores, and scores=false leaves them out")
        return self


def work(job: LabelJob) -> str:
    job.quality.check()  # before hours of translating
    options = LabelOptions(**{name: getattr(job, name) for name in LabelOptions.model_fields})
    labelling = open_labelling(options, job.shards, job.target, job.out, job.cache, job.cluster, job.retry_errors)
    if job.dry_run:
        labelling.estimate(job.limit)
        return "no labels written; the same command without dry_run writes them"
    results = labelling.run()
    for one in labelling.sets if job.scores else ():
        score_and_report(job.shards, one.folder, job.keep, job.quality, labelling.cache_folder, job.cluster)
    return "\n".join(f"{result.folder} {'was done before' if result.reused else 'is done'}" for result in results)


if __name__ == "__main__":
    sys.exit(run_job(LabelJob, work, __doc__))
