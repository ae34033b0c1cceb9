"""Sizes of the demo corpus: how many sentences and voices each split has."""

from xlst_ray.config import Section, option


class DemoOptions(Section):
    """What to draw from the grammar, and how many voices speak it.

    English (`en`) is the source, Finnish (`fi`) the target. All splits of both languages, and the text pairs for
    machine translation, are disjoint in meaning and in sentence; voices of dev and test are not heard in training.
    """

    seed: int = option(0, "draws sentences, voices, noise", ge=0)
    source_train: int = option(2000, "English utterances to train on, each with its Finnish translation", ge=1)
    source_dev: int = option(100, "English utterances to validate on", ge=1)
    source_test: int = option(100, "English utterances to test on", ge=1)
    target_train: int = option(100, "Finnish utterances to train on", ge=1)
    target_dev: int = option(50, "Finnish utterances to validate on", ge=1)
    target_test: int = option(300, "Finnish utterances to test on", ge=1)
    mt_pairs: int = option(3000, "sentence pairs without speech, to train a translation model on", ge=1)
    source_train_speakers: int = option(40, "voices of the English training speech", ge=1)
    target_train_speakers: int = option(10, "voices of the Finnish training speech", ge=1)
    dev_speakers: int = option(6, "voices of each language's dev speech", ge=1)
    test_speakers: int = option(30, "voices of each language's test speech", ge=1)
    snr_low: float = option(20.0, "noisiest signal-to-noise ratio", unit="dB")
    snr_high: float = option(40.0, "cleanest signal-to-noise ratio", unit="dB")
