"""What an engine must know of a model of jobs/train_mt.py: its languages, its prompt, its control tokens.

Apart from the model itself, because the engines that serve the folder from elsewhere need no torch to read this.
"""

from dataclasses import dataclass
from typing import Final

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError

BOS: Final = "<s>"
PAD: Final = "<pad>"
EOS: Final = "</s>"
SEP: Final = "<sep>"
SPECIALS: Final = (BOS, PAD, EOS, SEP)
INFO_FILE: Final = "xlst_mt.json"


@dataclass(frozen=True)
class LMInfo:
    """What an engine must know of a model folder: its languages and how a source sentence becomes a prompt."""

    source: str
    target: str
    prompt: str = "{source}" + SEP

    def fill(self, source: str) -> str:
        """The prompt of a sentence. The special tokens' spellings are no text and are taken out of it."""
        for special in SPECIALS:
            source = source.replace(special, " ")
        return self.prompt.replace("{source}", source)

    def check(self, source: str, target: str, *, where: str) -> None:
        """Raises `ConfigError` where the model is one of another pair of languages."""
        if (self.source, self.target) != (source, target):
            raise ConfigError(f"translates {self.source} to {self.target}, not {source} to {target}", where=where)


def read_info(folder: str) -> LMInfo:
    """What `save_lm` noted of a folder's languages and prompt.

    Raises:
        DataError: the file is missing or not ours.
    """
    url = storage.join(folder, INFO_FILE)
    values = storage.read_json(url)
    try:
        info = LMInfo(**values)
    except TypeError:
        raise DataError("does not hold source, target and prompt", where=url) from None
    if "{source}" not in info.prompt:
        raise DataError(f"has a prompt without {{source}}: {info.prompt!r}", where=url)
    return info
