"""The demo's voices: who speaks in which split, and how each utterance is recorded. All from the seed."""

import random
from typing import Final

from xlst_ray.demo.options import DemoOptions
from xlst_ray.demo.speech import Room, Speaker

HEARD: Final = ("f1", "f2", "f4", "f5", "m1", "m2", "m4", "m5", "m6", "m8", "klatt")
UNHEARD: Final = ("f3", "m3", "m7", "croak")  # in test only
PITCHES: Final = range(25, 86)
RANGES: Final = range(30, 71)
SLOWEST, FASTEST = 145, 215  # words a minute
PEAKS: Final = (0.1, 0.9)

_RATE_OF: Final = {"train": 0, "dev": 1, "test": 2}  # rates modulo 3: no voice can stand in two splits


def cast(options: DemoOptions, lang: str, split: str) -> list[Speaker]:
    """The speakers of a split. More speakers keep those that there are, and the variants come in turns."""
    count = {
        "train": options.source_train_speakers if lang == "en" else options.target_train_speakers,
        "dev": options.dev_speakers,
        "test": options.test_speakers,
    }[split]
    rng = random.Random(f"{options.seed} {lang} {split} voices")
    variants = list(HEARD + UNHEARD if split == "test" else HEARD)
    rng.shuffle(variants)
    rates = range(SLOWEST + _RATE_OF[split], FASTEST + 1, len(_RATE_OF))
    return [
        Speaker(variants[i % len(variants)], rng.choice(PITCHES), rng.choice(RANGES), rng.choice(rates))
        for i in range(count)
    ]


def room_of(options: DemoOptions, utterance_id: str) -> Room:
    """The recording of one utterance."""
    rng = random.Random(f"{options.seed} {utterance_id}")
    snr = rng.uniform(options.snr_low, options.snr_high)
    return Room(round(snr, 1), round(rng.uniform(*PEAKS), 2), rng.getrandbits(31))
