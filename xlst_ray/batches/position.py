"""Where training stands in its data: what a checkpoint keeps, and where a resume goes on without replaying."""

from typing import NamedTuple


class Position(NamedTuple):
    """The next step's first batch, the same for every rank and in units that do not depend on how many there are.

    Attributes:
        epoch: from 0.
        batch: batches that all ranks together have taken of the window, or of the epoch where a task has no windows.
        window: window of the epoch, from 0 (`xlst_ray.batches.plan`).
        lanes: ranks that the epoch was planned for; 0: those that begin it. Other ranks that go on in its middle take
            the same batches in the same order, and plan the next epoch for themselves.
    """

    epoch: int = 0
    batch: int = 0
    window: int = 0
    lanes: int = 0


START = Position()
