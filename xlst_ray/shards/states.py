"""States of a frozen encoder beside the shards: files of the same split and name, the same rows in the same order."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.shards.files import label_url

STATES_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("steps", pa.int32(), nullable=False),  # S
        pa.field("states", pa.large_binary(), nullable=False),  # (S, D) float16, row by row
    ]
)
ROWS_TOGETHER: Final = 64  # rows of a row group: what is read to have one of them
STATES_PER_SECOND: Final = 50.0  # of all encoders that are known here


def states_url(shard_url: str, folder: str) -> str:
    """The file of a shard's states below a folder of states."""
    return label_url(shard_url, folder)


def read_steps(shard_url: str, folder: str, ids: Sequence[str]) -> list[int]:
    """States of each utterance of a shard.

    Raises:
        DataError: the file is missing, or out of step with its shard.
    """
    url = states_url(shard_url, folder)
    table = storage.read_table(url, ["id", "steps"])
    if table["id"].to_pylist() != list(ids):
        raise DataError(f"is out of step with {shard_url}", where=url, hint="make it again with jobs/encode.py")
    steps: list[int] = table["steps"].to_pylist()
    return steps


def unpack(states: bytes, steps: int) -> npt.NDArray[np.float16]:
    """One utterance's states (S, D)."""
    return np.frombuffer(states, dtype=np.float16).reshape(steps, -1)
