"""The processes that a process has started, and those that they have started."""

from pathlib import Path


def descendants(process: int) -> list[int]:
    """Their ids, those that were started by earlier ones behind them."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2]
        except OSError:  # it has ended
            continue
        children.setdefault(int(rest.split()[1]), []).append(pid)
    below = [process]
    for parent in below:
        below += children.get(parent, [])
    return below[1:]
