"""Where the curves of a training go: to TensorBoard's files in its folder, and to MLflow, if asked for."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from xlst_ray import storage
from xlst_ray.train.board import Board, TensorBoard
from xlst_ray.train.tracking import MLflow

FOLDER: Final = "tensorboard"  # of a training


@contextmanager
def boards_of(
    folder: str, here: Path, start: int, mlflow: str | None, params: Mapping[str, object]
) -> Iterator[list[Board]]:
    """The boards of a training, which hear of its end.

    Args:
        folder: of the training; where it is in an object store, files are written in `here` and copied at each
            validation.
        start: update that training goes on from.
        mlflow: server; none: TensorBoard alone.
        params: what is told of the training there.
    """
    boards: list[Board] = []
    if storage.is_local(folder):
        boards.append(TensorBoard(Path(storage.locate(folder)[1]) / FOLDER, start))
    else:
        written = partial(storage.copy_folder, str(here / FOLDER), storage.join(folder, FOLDER))
        boards.append(TensorBoard(here / FOLDER, start, written))
    if mlflow is not None:
        key = hashlib.sha256(folder.encode()).hexdigest()[:16]
        boards.append(MLflow(mlflow, Path(folder).name, key, params, start))
    error: BaseException | None = None
    try:
        yield boards
    except BaseException as found:
        error = found
        raise
    finally:
        for board in boards:
            board.close(error)
