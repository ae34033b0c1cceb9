"""A trained model -> a folder that transformers loads: `pipeline("automatic-speech-recognition", model=FOLDER)`.

python jobs/export.py model=data/asr-ka out=data/asr-ka-transformers
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.config import LanguageCode, Section, Url, option
from xlst_ray.stages.export import export
from xlst_ray.stages.stage import Stage, finished, run_stage


class ExportJob(Section):
    """A model, and the folder of its copy in the layout of transformers' Speech2Text."""

    model: Url = option(..., "folder or URL of the model, from jobs/train.py")
    lang: LanguageCode | None = option(None, "language to be written, of a model that can write several")
    out: Url = option(..., "folder or URL of the copy")


def work(job: ExportJob) -> str:
    config = {} if job.lang is None else {"lang": job.lang}
    stage = Stage("export", config, {"model": finished(job.model, "lang").fingerprint})
    result = run_stage(stage, job.out, lambda folder: export(job.model, folder, job.lang))
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(ExportJob, work, __doc__))
