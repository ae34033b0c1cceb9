"""A command and all processes below it: their memory and processor time as they go by."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Watched:
    """What a command took.

    Attributes:
        wall, cpu: seconds; `cpu` of all its processes, as last seen.
        resident: bytes resident of each process by second, by its number.
        names: of the processes; Ray names its own by what they do.
        seconds: of processor time of each process, as last seen.
    """

    wall: float = 0.0
    cpu: float = 0.0
    resident: dict[int, dict[float, int]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def peaks(self, name: str | None = None) -> tuple[int, int]:
        """The most bytes resident at once in the first half of the time and in the second: of all processes together,
        or of the largest whose name begins so.

        Pages that processes share, as those of Ray's object store, count in each of them.
        """
        at: dict[float, int] = {}
        for pid, samples in self.resident.items():
            if name is None or self.names[pid].startswith(name):
                for second, resident in samples.items():
                    at[second] = at.get(second, 0) + resident if name is None else max(at.get(second, 0), resident)
        halves = [[size for second, size in at.items() if (second > self.wall / 2) == late] for late in (False, True)]
        return max(halves[0], default=0), max(halves[1], default=0)


def watch(command: Sequence[str], env: Mapping[str, str], *, every: float = 0.5) -> Watched:
    """Run a command to its end. Raises `CalledProcessError` where it fails."""
    found = Watched()
    times = found.seconds
    began = time.monotonic()
    with subprocess.Popen(command, env=dict(env), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            second = round(time.monotonic() - began, 2)
            for pid, (name, cpu, resident) in _below(process.pid).items():
                times[pid] = max(cpu, times.get(pid, 0.0))
                found.resident.setdefault(pid, {})[second] = resident
                known = found.names.get(pid, "")
                if not known or (name.startswith("ray::") and name != "ray::IDLE" and not known.startswith(name)):
                    found.names[pid] = name  # not that of one that ends, which is cut off
            time.sleep(every)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found.wall, found.cpu = time.monotonic() - began, sum(times.values())
    return found


def _below(root: int) -> dict[int, tuple[str, float, int]]:
    """Name, CPU-seconds and resident bytes of a process and of all below it."""
    seen: dict[int, tuple[int, str, float, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
            words = (stat.parent / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        fields = rest.split()  # from the third field of proc(5) on
        pid, scripts = int(stat.parent.name), [Path(word).name for word in words[1:] if word.endswith(".py")]
        name = words[0] if words[0].startswith("ray::") else (scripts or [head.partition("(")[2]])[0]
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        seen[pid] = (int(fields[1]), name, cpu, int(fields[21]) * PAGE)
    members = {root}
    while more := {pid for pid, (parent, *_) in seen.items() if parent in members} - members:
        members |= more
    return {pid: (name, cpu, resident) for pid, (_, name, cpu, resident) in seen.items() if pid in members}
