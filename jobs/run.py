"""The whole recipe: speech of two languages -> a table of target-language WER by what the recogniser started from.

    python jobs/run.py --config jobs/configs/demo.yaml 'seeds=[1,2,3]'

Stages that are done are not done again; a run that was killed goes on where it was.
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.results import run_experiment

if __name__ == "__main__":
    sys.exit(run_job(Experiment, run_experiment, __doc__))
