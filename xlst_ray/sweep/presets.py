"""Ready search spaces, in keys of any experiment; figures follow from the configuration that they vary."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from xlst_ray.sweep.options import Domain

START: Final = "start"  # the one key that is none of the configuration: the arm that the fine-tuning belongs to

ValueAt = Callable[[str], Any]


def preset_space(name: str, value_at: ValueAt, starts: Sequence[str]) -> dict[str, Domain]:
    """The domains of a preset.

    quick: learning rate, dropout, CTC weight. transfer: these, and what is taken over from where, what is frozen for
    how long, warm-up, SpecAugment.

    Args:
        value_at: reads the configuration by dotted key.
        starts: arms that start from a model.
    """
    return {"quick": _quick, "transfer": _transfer}[name](value_at, starts)


def _domain(**values: Any) -> Domain:
    return Domain.model_validate(values)


def _quick(value_at: ValueAt, _: Sequence[str]) -> dict[str, Domain]:
    lr = value_at("finetune.train.lr")
    found = {
        "finetune.train.lr": _domain(log_uniform=[lr / 4, lr * 4]),
        "finetune.dropout": _domain(choice=[0.0, 0.1, 0.2, 0.3]),
    }
    if value_at("model.ctc"):
        found["finetune.train.ctc_weight"] = _domain(choice=[0.1, 0.3, 0.5])
    return found


def _transfer(value_at: ValueAt, starts: Sequence[str]) -> dict[str, Domain]:
    updates = value_at("finetune.train.updates")
    found = {
        **_quick(value_at, starts),
        "finetune.transfer.modules": _domain(choice=["all", "encoder"]),
        "finetune.transfer.freeze.encoder.*": _domain(choice=[0, updates // 10, updates // 4]),
        "finetune.train.warmup": _domain(choice=[updates // 20, updates // 10, updates // 3]),
        "finetune.augment.policy": _domain(choice=["none", "lb", "ld"]),
    }
    if len(starts) > 1:
        found[START] = _domain(choice=list(starts))
    return found
