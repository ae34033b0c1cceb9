"""What a job prints, read while it runs."""

import subprocess


def read_until(job: subprocess.Popen[str], text: str) -> None:
    """Up to a line with a text; fails where the job ends before."""
    assert job.stdout is not None
    said = []
    for line in job.stdout:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}: {''.join(said)}")
