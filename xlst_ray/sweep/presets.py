"""Ready search spaces, in keys of any experiment; figures follow from the configuration that they vary."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from xlst_ray.sweep.options import Domain

START: Final = "start"  # the one key that is none of the configuration: the arm that the fine-tuning belongs to

ValueAt = Callable[[str], Any]


def phase_space(name: str, phase: str, value_at: ValueAt, starts: Sequence[str]) -> dict[str, Domain]:
    """The domains of a preset that varies the last training.

    quick: learning rate, dropout, CTC weight. transfer: these, and what is taken over from where, what is frozen for
    how long or learns more slowly, warm-up, SpecAugment; in the phase `joint` how often the labels are met.

    Args:
        phase: `finetune` or `joint`.
        value_at: reads the configuration by dotted key.
        starts: arms of that phase that start from a model.
    """
    return {"quick": _quick, "transfer": _transfer}[name](phase, value_at, starts)


def filters_space(engine: str) -> dict[str, Domain]:
    """The domains of the preset `filters`: the labels of an engine that are trained on.

    How many of them, and whether, and at which thresholds, their scores refuse some: between none and those of NVIDIA
    Granary (Interspeech 2025). Each trial has an ST model of its own.
    """
    keep, scored = f"engines.{engine}.keep", {f"engines.{engine}.scores": [True]}
    return {
        f"engines.{engine}.share": _domain(choice=[0.25, 0.5, 1.0]),
        f"engines.{engine}.scores": _domain(choice=[False, True]),
        f"{keep}.length_ratio": _domain(choice=[2.0, 4.0], when=scored),
        f"{keep}.language": _domain(choice=[0.02, 0.3, 0.6], when=scored),
        f"{keep}.script": _domain(choice=[0.5, 0.8], when=scored),
        f"{keep}.untranslated": _domain(choice=[0.4, 0.7], when=scored),
        f"{keep}.repetition": _domain(choice=[0.1, 0.3], when=scored),
    }


def _domain(**values: Any) -> Domain:
    return Domain.model_validate(values)


def _quick(phase: str, value_at: ValueAt, _: Sequence[str]) -> dict[str, Domain]:
    lr = value_at(f"{phase}.train.lr")
    found = {
        f"{phase}.train.lr": _domain(log_uniform=[lr / 4, lr * 4]),
        f"{phase}.dropout": _domain(choice=[0.0, 0.1, 0.2, 0.3]),
    }
    if value_at("model.ctc"):
        found[f"{phase}.train.ctc_weight"] = _domain(choice=[0.1, 0.3, 0.5])
    return found


def _transfer(phase: str, value_at: ValueAt, starts: Sequence[str]) -> dict[str, Domain]:
    updates = value_at(f"{phase}.train.updates")
    found = {
        **_quick(phase, value_at, starts),
        f"{phase}.transfer.modules": _domain(choice=["all", "encoder"]),
        f"{phase}.transfer.freeze.encoder.*": _domain(choice=[0, updates // 10, updates // 4]),
        f"{phase}.train.lr_scale.encoder.*": _domain(choice=[0.1, 0.3, 1.0]),
        f"{phase}.train.warmup": _domain(choice=[updates // 20, updates // 10, updates // 3]),
        f"{phase}.augment.policy": _domain(choice=["none", "lb", "ld"]),
    }
    if phase == "joint":
        found["joint.batch.temperature"] = _domain(choice=[1.0, 2.0, 5.0])
    if len(starts) > 1:
        found[START] = _domain(choice=list(starts))
    return found
