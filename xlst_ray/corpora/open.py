"""From options to a corpus."""

from importlib import import_module
from typing import Final

from xlst_ray.corpora.corpus import Corpus, Reader
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import ConfigError

CLASSES: Final = {  # by the name of the reader, which is its module's too
    "manifest": "Manifest",
    "common_voice": "CommonVoice",
    "covost": "CoVoST",
    "fleurs": "Fleurs",
    "hf_parquet": "HFParquet",
    "hf_audiofolder": "HFAudioFolder",
    "lhotse": "Lhotse",
    "webdataset": "WebDataset",
    "librispeech": "LibriSpeech",
    "mls": "MLS",
    "must_c": "MustC",
    "mtedx": "MTEDx",
    "europarl_st": "EuroparlST",
    "voxpopuli": "VoxPopuli",
    "fish_fillets": "FishFillets",
    "demo": "Demo",
}


def open_corpus(options: CorpusOptions) -> Corpus:
    """The corpus that the options name, cut to `limit` rows a split.

    Raises:
        ConfigError: it has no path.
        DataError: from here or from its methods, where it is not what the options say.
    """
    if not options.path and options.reader != "demo":
        raise ConfigError(f"the reader {options.reader} needs a path", hint="set the corpus' path to its folder")
    module = import_module(f"xlst_ray.corpora.{options.reader}")
    reader: Reader = getattr(module, CLASSES[options.reader])(options)
    return Corpus(reader, options.path or options.reader, options.splits, options.limit)
