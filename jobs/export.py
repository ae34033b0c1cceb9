"""A trained model -> a folder that transformers loads: `pipeline("automatic-speech-recognition", model=FOLDER)`.

python jobs/export.py model=data/asr-ka out=data/asr-ka-transformers
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.config import Section, Url, option
from xlst_ray.stages.export import export
from xlst_ray.stages.stage import Stage, finished, run_stage


class ExportJob(Section):
    """A model, and the folder of its copy in the layout of transformers' Speech2Text."""

    model: Url = option(..., "folder or URL of the model, from jobs/train.py")
    out: Url = option(..., "folder or URL of the copy")


def work(job: ExportJob) -> str:
    stage = Stage("export", {}, {"model": finished(job.model, "lang").fingerprint})
    result = run_stage(stage, job.out, lambda folder: export(job.model, folder))
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(ExportJob, work, __doc__))
