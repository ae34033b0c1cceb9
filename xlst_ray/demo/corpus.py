"""The demo's sentences: who may be drawn for which split, and the draw itself.

A sentence belongs to one split for good, by a hash of the seed and its Finnish text; each split draws from its own
part. So splits are disjoint by construction, in both languages, and a larger training set holds the smaller one and
leaves every other split as it was.
"""

import hashlib
import random
from typing import Final

from xlst_ray.demo import grammar
from xlst_ray.demo.grammar import Pair
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError

# Percent of all meanings that a split may draw from; names as in `DemoOptions`.
SHARES: Final = {
    "source_train": 35,
    "source_dev": 5,
    "source_test": 5,
    "target_train": 10,
    "target_dev": 4,
    "target_test": 6,
    "mt_pairs": 35,
}
_SPLITS: Final = tuple(name for name, share in SHARES.items() for _ in range(share))


def split_of(pair: Pair, seed: int) -> str:
    """The split that a meaning belongs to."""
    digest = hashlib.sha256(f"{seed} {pair.fi}".encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def sentences(options: DemoOptions, split: str) -> list[Pair]:
    """The distinct sentence pairs of a split (a key of `SHARES`), as many as the options say, in a fixed order.

    Raises:
        ConfigError: more than half of what the grammar has for the split.
    """
    count: int = getattr(options, split)
    most = grammar.SIZE * SHARES[split] // 100 // 2
    if count > most:
        raise ConfigError(
            f"{count} sentences are more than the grammar gives", where=f"demo.{split}", hint=f"ask for {most} at most"
        )
    rng = random.Random(f"{options.seed} {split}")
    drawn: dict[Pair, None] = {}
    while len(drawn) < count:
        pair = grammar.draw(rng)
        if split_of(pair, options.seed) == split:
            drawn[pair] = None
    return list(drawn)


def parallel_pairs(options: DemoOptions) -> list[tuple[str, str]]:
    """(English, Finnish) text to train a translation model on; none of it is spoken in any split."""
    return [(pair.en, pair.fi) for pair in sentences(options, "mt_pairs")]
