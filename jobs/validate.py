"""Shards (and labels) -> what is wrong with them: schema, ids, audio, durations, scripts, languages, leakage, labels.

python jobs/validate.py shards=data/cv-ka html=data/cv-ka.html

Prints a summary with histograms. Exit status 2 where a fault was found that `allow` does not name.
"""

import sys

from xlst_ray import storage
from xlst_ray.cli import run_job
from xlst_ray.cluster.options import TaskCluster
from xlst_ray.config import Section, Url, option
from xlst_ray.errors import DataError
from xlst_ray.report.validation import validation_page, validation_text
from xlst_ray.shards.inspect import Fault
from xlst_ray.stages.validate import validate


class ValidateJob(Section):
    """What is looked at, and where the page goes."""

    shards: Url = option(..., "folder or URL of the shards")
    labels: Url | None = option(None, "folder or URL of labels for them")
    html: Url | None = option(None, "file or URL of a page with plots; none: no page")
    allow: tuple[Fault, ...] = option((), "faults that are known and accepted: they are told, but no error")
    cluster: TaskCluster = option(TaskCluster, "where")


def work(job: ValidateJob) -> str:
    found = validate(job.shards, job.labels, job.cluster, pool=0 if job.cluster.workers == 0 else None)
    if job.html is not None:
        storage.write_bytes(job.html, validation_page(found).encode())
    text = validation_text(found)
    left = sorted({fault for _, fault in found.faults} - set(job.allow))
    if left:
        print(text)
        raise DataError(
            f"faults found: {', '.join(left)}",
            where=job.shards,
            hint=f"mend the corpus and make the shards again, or accept them with allow=[{','.join(left)}]",
        )
    return text if job.html is None else f"{text}\n\n{job.html}"


if __name__ == "__main__":
    sys.exit(run_job(ValidateJob, work, __doc__))
