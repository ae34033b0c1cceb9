"""Send a job to a Ray cluster, follow its output, exit as it does.

    python jobs/submit.py address=http://127.0.0.1:8265 -- python jobs/run.py --config my.yaml workspace=s3://bucket/xlst
    python jobs/submit.py resume=xlst-20261122-201500-1a2b

The folder it is called in goes along, but for what .gitignore and .rayignore name. Everything that a job leaves is in
its workspace, so that a job that was stopped, or whose cluster died, goes on when it is submitted again.
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.submit import SubmitOptions, submit


def main(arguments: list[str]) -> int:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    status = 0

    def work(options: SubmitOptions) -> str:
        nonlocal status
        status = submit(options, arguments[place + 1 :])
        return f"exit status {status}"

    return run_job(SubmitOptions, work, __doc__, arguments[:place]) or status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
