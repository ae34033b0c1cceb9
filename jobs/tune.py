"""A sweep: the best configuration of the target ASR by WER of the development set, scored once on the test set.

    python jobs/tune.py --config jobs/configs/demo.yaml search.preset=quick search.trials=24

What the trials start from is made once. A sweep that was killed goes on; no finished trial runs again.
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.sweep import run_sweep

if __name__ == "__main__":
    sys.exit(run_job(Experiment, run_sweep, __doc__))
