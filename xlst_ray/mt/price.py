"""What translation costs, at prices that the user gives, and where it has to stop."""

from typing import Self

from pydantic import model_validator

from xlst_ray.config import Section, option


class PriceOptions(Section):
    """Prices in any one currency; only the ratio of tokens to money is ours."""

    input: float = option(0.0, "of a million tokens that the engine reads, prompts included", unit="money", ge=0)
    output: float = option(0.0, "of a million tokens that it writes", unit="money", ge=0)
    gpu_hour: float = option(0.0, "of a GPU for an hour", unit="money", ge=0)
    cap: float | None = option(
        None, "no more is sent once the tokens of a job's label sets have cost this, over all runs", unit="money", gt=0
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cap is not None and not self.input and not self.output:
            raise ValueError("cap needs the price of tokens: set input and output")
        return self

    def of_tokens(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6
