"""Multilingual TEDx: talks in 8 languages, transcribed, and of some pairs translated.

The layout is MuST-C's (read by fairseq's examples/speech_to_text/prep_mtedx_data.py) with other parts and with FLAC
where the YAML says `.wav`: folders such as `es-es` (transcripts alone) and `es-en`. From openslr.org/100, under CC
BY-NC-ND 4.0.
"""

from typing import ClassVar

from xlst_ray.corpora.must_c import MustC


class MTEDx(MustC):
    """Reader of the folder of a language or of a pair. Talks are the groups."""

    version = "mtedx 1"
    parts: ClassVar = {"train": "train", "dev": "valid", "test": "test"}
    layout = "path is the folder of a language or pair, such as mtedx/es-es or mtedx/es-en, with data/train/txt/ in it"
    extension = "flac"
