"""Processor time of a process and of all below it, between two moments."""

import threading
from collections import Counter

import psutil

EVERY = 0.2  # seconds between two looks


class ProcessorTime:
    """Looks again and again, for a process that has ended tells nothing any more."""

    def __init__(self, root: int) -> None:
        self._root, self._stop = root, threading.Event()
        self._before: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._last: dict[int, float] = {}
        self._look()
        self._before = dict(self._last)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Seconds since the beginning by the names of the processes, the largest first; Ray and vLLM name theirs by
        what they do."""
        self._stop.set()
        self._thread.join()
        used: Counter[str] = Counter()
        for pid, seconds in self._last.items():
            used[self._names[pid]] += seconds - self._before.get(pid, 0.0)
        return dict(used.most_common())

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            below = [psutil.Process(self._root), *psutil.Process(self._root).children(recursive=True)]
        except psutil.Error:  # it has ended
            return
        for process in below:
            try:
                times, title = process.cpu_times(), (process.cmdline() or [process.name()])[0]
            except psutil.Error:
                continue
            self._last[process.pid] = times.user + times.system
            self._names[process.pid] = title if title.startswith(("ray::", "VLLM::")) else process.name()
