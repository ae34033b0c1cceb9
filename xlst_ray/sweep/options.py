"""A sweep as configuration: which keys vary over what, who picks the values, and when a trial is stopped early."""

from typing import Any, Final, Literal, Self

from pydantic import field_validator, model_validator

from xlst_ray.config import Section, Seed, option

Values = tuple[Any, ...]

# Why a scheduler that Ray Tune has is none of ours.
REFUSED: Final = {
    "pbt": "population-based training",
    "pb2": "population-based bandits",
}


class Domain(Section):
    """What a key may be: exactly one of choice, uniform, log_uniform and integer."""

    choice: Values | None = option(None, "one of these values", min_length=1)
    uniform: tuple[float, float] | None = option(None, "a number from low to high")
    log_uniform: tuple[float, float] | None = option(None, "a number from low to high, uniform in its logarithm")
    integer: tuple[int, int] | None = option(None, "a whole number from low to high, both included")
    step: int | None = option(None, "for integer: between the values, from low on; none: 1", ge=1)
    when: dict[str, Values] = option({}, "keys and the values that they must have; else this key stays as it is")

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = ("choice", "uniform", "log_uniform", "integer")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(kinds)} (given: {', '.join(given) or 'none'})")
        if self.choice is None and self.low >= self.high:
            raise ValueError(f"{given[0]}: the low end ({self.low:g}) must be below the high one ({self.high:g})")
        if self.log_uniform is not None and self.low <= 0:
            raise ValueError(f"log_uniform: the low end ({self.low:g}) must be above 0")
        if self.choice is not None and any(value in self.choice[:place] for place, value in enumerate(self.choice)):
            raise ValueError("choice: holds a value twice")
        if self.step is not None and self.integer is None:
            raise ValueError("step is for integer alone")
        return self

    @property
    def low(self) -> float:
        """The low end of a range."""
        return self._ends[0]

    @property
    def high(self) -> float:
        """The high end of a range."""
        return self._ends[1]

    @property
    def _ends(self) -> tuple[float, float]:
        ends = self.uniform or self.log_uniform or self.integer
        assert ends is not None
        return ends

    @property
    def finite(self) -> Values | None:
        """All values in order; none where there is no end of them."""
        if self.integer is not None:
            return tuple(range(self.integer[0], self.integer[1] + 1, self.step or 1))
        return self.choice

    def holds(self, value: Any) -> bool:
        """Whether the key may be this value."""
        finite = self.finite
        if finite is not None:
            return value in finite
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    @property
    def examples(self) -> Values:
        """Values that between them show whether all are of the right type and within bounds."""
        if self.choice is not None:
            return self.choice
        finite = self.finite
        return (self.low, self.high) if finite is None else (finite[0], finite[-1])


class SearchOptions(Section):
    """What `jobs/tune.py` varies. The other jobs leave it alone."""

    preset: Literal["quick", "transfer", "filters"] | None = option(
        None, "a ready search space, which `space` adds to and overrules: see docs/sweeps.md"
    )
    space: dict[str, Domain] = option({}, "dotted key of this configuration, or `start` (an arm) -> what it may be")
    start: str | None = option(None, "arm whose fine-tuning is varied, such as st-mt-lm; none: the last one of `arms`")
    searcher: Literal["random", "grid", "optuna"] = option(
        "random", "who picks the values; optuna: its tree-structured Parzen estimator (extra `optuna`)"
    )
    objectives: tuple[Literal["wer", "seconds"], ...] = option(
        ("wer",), "what optuna makes small: dev WER; with `seconds`, of training, it seeks the front of both"
    )
    trials: int = option(24, "trials beside the configuration as it stands; for grid: the most there may be", ge=1)
    stop: Literal["asha", "median", "hyperband", "none"] = option(
        "asha", "when a trial ends early: asha, median, hyperband (asynchronous: asha with several periods of grace)"
    )
    grace: int | None = option(
        None, "updates that every trial may train; none: up to its first validation", unit="updates", ge=1
    )
    reduction: float = option(3.0, "asha, hyperband: one trial in this many goes on at each rung", gt=1)
    concurrent: int | None = option(None, "trials at a time; none: as many as the cluster holds", ge=1)
    seed: Seed = option(1, "of the values that are picked; models train with the first of `seeds`")

    @field_validator("stop", mode="before")
    @classmethod
    def _refuse_population(cls, value: Any) -> Any:
        if value in REFUSED:
            raise ValueError(
                f"{value} ({REFUSED[value]}) copies the weights of one running trial into another by way of Ray Tune's "
                "checkpoints of trials, and there are none here: a trial's checkpoints are Ray Train's and named by "
                "its own configuration. Take asha, median or hyperband"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.objectives[:1] != ("wer",) or len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives: [wer] or [wer, seconds]")
        if len(self.objectives) > 1:
            if self.searcher != "optuna":
                raise ValueError(f"several objectives are for searcher optuna, not {self.searcher}")
            if self.stop != "none":
                raise ValueError("with several objectives all trials run to their end: set stop=none")
        return self
