"""How utterances become batches."""

from pydantic import model_validator

from xlst_ray.config import Section, option


class BatchOptions(Section):
    """Caps of a batch, the window of the shuffle, and which utterances are fit for training."""

    max_utterances: int = option(64, "most utterances in a batch of one worker", ge=1)
    max_frames: int = option(40_000, "most frames in a batch of one worker, padding included", unit="frames", ge=1)
    max_tokens: int = option(16_000, "most target tokens in a batch of one worker, padding included", ge=1)
    table: tuple[tuple[int, int, int], ...] = option(
        (),
        "rows of frames, target tokens, utterances: a batch whose longest utterance is within a row has at most as "
        "many; max_frames and max_tokens are not looked at then; empty: these alone hold",
        added=True,
    )
    fit: bool = option(
        False,
        "before the first epoch, find such a table: the most utterances, up to max_utterances, that the memory of a "
        "training process holds",
        added=True,
    )
    memory: float | None = option(
        None,
        "of a training process, for fit; none: nine tenths of its GPU's; on a CPU it must be named",
        unit="GiB",
        added=True,
        gt=0,
    )
    window_shards: int = option(
        4, "shards of each worker that are shuffled and bucketed together, and held in its memory", unit="shards", ge=1
    )
    token_buckets: int = option(
        2, "batches of like duration, sorted by tokens: with more of them targets are padded less and frames more", ge=1
    )
    temperature: float = option(
        1.0, "of sampling over several sources: n hours are met in proportion to n^(1/T); 1: each once an epoch", ge=1
    )
    min_utterance_frames: int = option(5, "shorter training utterances are left out", unit="frames", ge=1)
    max_utterance_frames: int = option(3000, "longer training utterances are left out", unit="frames", ge=1)
    max_utterance_tokens: int = option(1024, "training utterances with more target tokens are left out", ge=1)
    max_ctc_infeasible: float = option(
        0.02, "refuse to train with CTC when a larger share of utterances has too few encoder steps", ge=0, le=1
    )
    max_unknown: float = option(
        0.05,
        "refuse to train when a larger share of the target tokens is unknown to the vocabulary",
        added=True,
        ge=0,
        le=1,
    )
    cache_mb: int = option(512, "features kept in memory by each loader", unit="MB", ge=0)

    @model_validator(mode="after")
    def _check(self) -> "BatchOptions":
        if self.fit and self.table:
            raise ValueError("there is a table, so nothing to fit")
        if any(value < 1 for row in self.table for value in row):
            raise ValueError("the figures of a table are 1 or more")
        return self
