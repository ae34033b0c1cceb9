"""Where training stands in its data: what a checkpoint keeps, and where a resume goes on without replaying."""

from typing import NamedTuple


class Position(NamedTuple):
    """The next step's first batch, the same for every rank of the plan.

    Attributes:
        epoch: from 0.
        batch: batches that all ranks together have taken of the window, or of the epoch where a task has no windows.
        window: window of the epoch, from 0 (`xlst_ray.batches.plan`).
    """

    epoch: int = 0
    batch: int = 0
    window: int = 0


START = Position()
