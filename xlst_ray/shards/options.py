"""How shards are made: their size, and which utterances do not enter them."""

from typing import Self

from pydantic import model_validator

from xlst_ray.config import Section, option


class ShardOptions(Section):
    """Rows in a shard, and the limits outside of which an utterance is rejected, with its reason."""

    rows_per_shard: int = option(512, "utterances of the corpus in a shard, rejected ones included", ge=1)
    min_seconds: float = option(0.1, "shorter recordings are rejected", unit="s", ge=0)
    max_seconds: float = option(40.0, "longer recordings are rejected", unit="s", gt=0)
    min_chars: int = option(1, "shorter transcripts are rejected", unit="characters", ge=0)
    max_chars: int | None = option(None, "longer transcripts are rejected; none: no limit", unit="characters", ge=1)
    max_chars_per_second: float | None = option(
        None, "transcripts that cannot have been spoken so fast are rejected; none: no limit", unit="1/s", gt=0
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} is above max_seconds {self.max_seconds}")
        if self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}")
        return self
