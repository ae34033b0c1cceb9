"""Where the loss or the gradient of an update is not finite: which batches it is of, written down to be looked at.

`update-0000012/` holds, for each such batch, `rank-0-batch-1.json` (ids, lengths, which tensors and which gradients are
not finite) and `rank-0-batch-1.safetensors` (its tensors), and `weights.safetensors`, the model before the update.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from safetensors.torch import save_file
from torch import Tensor

from xlst_ray.errors import TrainingError
from xlst_ray.train.checkpoint import checkpoint_name, weights
from xlst_ray.train.seeds import seeded
from xlst_ray.train.shard import local
from xlst_ray.train.step import World
from xlst_ray.train.task import B, Task

FOLDER: Final = "not-finite"
_HINT: Final = (
    "the .json there tells utterances, lengths, and which tensors and gradients are not finite; "
    "safetensors.torch.load_file reads the tensors. If the features are finite: lower train.lr, lengthen train.warmup, "
    "or leave those utterances out; if they are not: look at the shards with jobs/validate.py"
)


class Failure(NamedTuple):
    """An update that failed: its number, and what torch was seeded with before each of its batches."""

    update: int
    seeds: Sequence[int]


def explain(
    task: Task[B],
    batches: Sequence[B],
    world: World,
    folder: Path,
    failure: Failure,
    kept: Callable[[Path], str],
    scale: float = 1.0,
) -> TrainingError:
    """Take this rank's batches of a failed update one by one, write down those that fail, and say which they are.

    To be called on every rank, with the weights as they were.

    Args:
        folder: local; `kept` brings what was written there to where it stays, and returns that place.
        scale: of the loss, in fp16.
    """
    factor = scale * world.size / world.tokens(task, batches)
    found = [_examine(task, batch, world, factor) for batch in seeded(batches, failure.seeds, world.device)]
    here = folder / FOLDER / checkpoint_name(failure.update)
    here.mkdir(parents=True, exist_ok=True)
    values = {name: value.cpu().contiguous() for name, value in weights(task.model).items()}
    if world.rank == 0:
        save_file(values, here / "weights.safetensors")
    # Where a model is shared out, the gradients of a batch are those of all ranks' together.
    loss_fails = any(world.gather(not all(math.isfinite(loss) for loss, _ in found)))
    failing = [
        at for at, (loss, gradients) in enumerate(found) if (not math.isfinite(loss) if loss_fails else gradients)
    ]
    told = []
    for number in failing:
        facts = {"update": failure.update, "seed": failure.seeds[number], "rank": world.rank, "batch": number}
        told.append(_write(task, batches[number], here, facts, *found[number]))
    place = world.first(kept(here))
    reports = [report for rank in world.gather(told) for report in rank]
    return TrainingError(_what(failure.update, reports), where=place, hint=_HINT)


def _examine(task: Task[B], batch: B, world: World, factor: float) -> tuple[float, list[str]]:
    """The loss of a batch a target token, and the parameters whose gradient is not finite."""
    task.model.zero_grad(set_to_none=True)
    with world.autocast():
        result = task.loss(task.model, batch)
    (result.loss * factor).backward()  # type: ignore[no-untyped-call]
    named = task.model.named_parameters()
    names = [name for name, value in named if value.grad is not None and not bool(local(value.grad).isfinite().all())]
    return float(result.loss.detach()) / result.count, names


def _write(
    task: Task[B], batch: B, folder: Path, facts: dict[str, Any], loss: float, gradients: list[str]
) -> dict[str, Any]:
    ids, tensors = task.contents(batch)
    name = f"rank-{facts['rank']}-batch-{facts['batch']}"
    save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
    found = {
        **facts,
        "loss": loss if math.isfinite(loss) else str(loss),
        "ids": ids,
        **{key: value.tolist() for key, value in tensors.items() if value.dim() == 1},
        "not_finite": {key: rows for key, value in tensors.items() if (rows := _rows_not_finite(ids, value))},
        "gradients_not_finite": gradients,
    }
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _rows_not_finite(ids: Sequence[str], values: Tensor) -> list[str]:
    finite = values.isfinite().flatten(1).all(1) if values.dim() > 1 else values.isfinite()
    return [name for name, good in zip(ids, finite.tolist(), strict=True) if not good]


def _what(update: int, reports: Sequence[dict[str, Any]]) -> str:
    if not reports:
        return f"the gradient of update {update} is not finite, though that of each of its batches is"
    side = "loss" if any(isinstance(report["loss"], str) for report in reports) else "gradient"
    bad = dict.fromkeys(name for report in reports for rows in report["not_finite"].values() for name in rows)
    ids = list(bad) or list(dict.fromkeys(name for report in reports for name in report["ids"]))
    named = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    told = f"what is read is not finite itself: {named}" if bad else named
    return f"the {side} of update {update} is not finite in {len(reports)} of its batches ({told})"
