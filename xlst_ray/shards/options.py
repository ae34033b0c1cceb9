"""How shards are made: their size, and which utterances do not enter them."""

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
