"""Look whether jobs will run here or on a cluster: versions, GPUs, storage, authentication, memory, disk, engine.

    python jobs/doctor.py workspace=s3://bucket/xlst cluster.address=auto cluster.by_role=true
    python jobs/doctor.py workspace=runs cluster.workers=0

Each failure says what to do about it. The exit status is 1 where anything failed.
"""

import sys

from xlst_ray.cli import run_job
from xlst_ray.cluster.doctor import DoctorOptions, examine
from xlst_ray.progress import say


def main(arguments: list[str]) -> int:
    failed = 0

    def work(options: DoctorOptions) -> str:
        nonlocal failed
        for finding in examine(options):
            say(str(finding))
            failed += finding.failed
        return f"{failed} of the checks failed" if failed else "all is well"

    return run_job(DoctorOptions, work, __doc__, arguments) or int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
