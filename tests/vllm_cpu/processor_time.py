"""Processor time of a process and of all below it."""

from collections import Counter
from collections.abc import Mapping

import psutil


def processor_seconds(root: int) -> dict[str, float]:
    """By the names of the processes, those of Ray and of vLLM by what they do."""
    found: Counter[str] = Counter()
    for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
        try:
            times, title = process.cpu_times(), (process.cmdline() or [process.name()])[0]
        except psutil.Error:  # it has ended
            continue
        name = title if title.startswith(("ray::", "VLLM::")) else process.name()
        found[name] += times.user + times.system
    return dict(found)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds between two looks, the largest first."""
    used = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    return dict(sorted(used.items(), key=lambda one: -one[1]))
