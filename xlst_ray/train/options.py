"""How a model is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xlst_ray.config import Section, option


class TrainOptions(Section):
    """Optimisation, validation and checkpoints. One update sees `accumulate` batches of every worker."""

    updates: int = option(60_000, "parameter updates", ge=1)
    lr: float = option(2e-3, "peak learning rate", gt=0)
    warmup: int = option(10_000, "updates of linear warm-up, then inverse square root decay", unit="updates", ge=0)
    betas: tuple[float, float] = option((0.9, 0.98), "Adam's moment decays")
    layer_decay: float = option(
        1.0,
        "learning rate of each layer of a pretrained encoder, as a share of that of the layer above it",
        added=True,
        gt=0,
        le=1,
    )
    lr_scale: dict[str, Annotated[float, Field(gt=0)]] = option(
        {},
        "pattern of parameter names, a shell's -> share of the learning rate, such as {'encoder.*': 0.1}; the first "
        "that fits counts",
        added=True,
    )
    weight_decay: float = option(0.0, "decoupled weight decay (AdamW)", ge=0)
    clip_norm: float = option(10.0, "largest gradient norm", gt=0)
    accumulate: int = option(1, "batches of each worker in an update", ge=1)
    label_smoothing: float = option(0.1, "share of a target's probability spread over the vocabulary", ge=0, lt=1)
    ctc_weight: float = option(0.3, "weight of the CTC loss; the rest is the attention loss", ge=0, le=1)
    validate_every: int = option(1000, "updates between validations, each with a checkpoint", unit="updates", ge=1)
    patience: int | None = option(None, "stop after this many validations without a better one; none: never", ge=1)
    average: int = option(5, "checkpoints whose weights are averaged into the final model", ge=1)
    average_by: Literal["last", "accuracy", "loss"] = option(
        "last", "which checkpoints are averaged: the last ones, or the best by development accuracy or loss"
    )
    ema: float | None = option(
        None,
        "decay of a running average of the weights, such as 0.999, which is validated and saved in their place; the "
        "checkpoints that are averaged are those of it; none: there is none",
        added=True,
        gt=0,
        lt=1,
    )
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "fp32", "bf16, fp16: autocast of matrix products, weights stay float32; fp16 scales the loss"
    )
    parallel: Literal["ddp", "fsdp"] = option(
        "ddp",
        "several processes: each has all of the model, or, for one too large for a GPU, they share parameters, "
        "gradients and moments out among them (FSDP2)",
        added=True,
    )
    recompute: bool = option(
        False,
        "keep the input of each layer alone, and compute the rest again in the backward pass: less memory, more time; "
        "of speech models alone",
        added=True,
    )
    compile: bool = option(
        False,
        "compile each kind of layer (torch.compile) before the first update, which takes a minute or two: faster "
        "updates on a GPU; of speech models alone",
        added=True,
    )
    log_every: int = option(50, "updates between progress lines", unit="updates", ge=1)

    @model_validator(mode="after")
    def _check(self) -> "TrainOptions":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must be from 0 to below 1")
        if self.warmup > self.updates:
            raise ValueError(f"warmup ({self.warmup}) is longer than updates ({self.updates})")
        if self.validate_every > self.updates:
            raise ValueError(f"validate_every ({self.validate_every}) is longer than updates ({self.updates})")
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("parallel fsdp is not for precision fp16, whose scale each process would set for itself")
        return self
