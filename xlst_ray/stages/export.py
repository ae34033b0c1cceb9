"""A trained model -> the folder of a transformers `Speech2TextForConditionalGeneration`."""

import tempfile
from pathlib import Path

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.files import load_model
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.stages.evaluate import read_text_rule
from xlst_ray.stages.states import about_model
from xlst_ray.text.ids import EOS
from xlst_ray.text.speech2text import write_tokenizer
from xlst_ray.text.vocabulary import Vocabulary


def export(model: str, folder: str, lang: str | None = None) -> dict[str, int]:
    """Write a model folder in that layout, and return its counts.

    A model that can write several languages is exported to write `lang`; none: the first that it was trained on.

    Raises:
        DataError: no model is there, or it is none that transformers has.
        ConfigError: it does not write that language.
    """
    with storage.local_folder(model) as local, tempfile.TemporaryDirectory(prefix="xlst-ray-") as temporary:
        if (about := about_model(local)) is not None:
            what = f"reads the states of {about['path']}, not filterbanks"
            raise DataError(what, where=model, hint="it cannot be exported")
        ours = load_model(local)
        vocabulary = Vocabulary.load(local, size=ours.vocabulary_size)
        start = EOS
        if vocabulary.tags or lang is not None:
            own = read_text_rule(local)[0]
            if lang not in (None, *(vocabulary.tags or [own])):
                raise ConfigError(f"the model does not write {lang}", where="lang")
            start = vocabulary.tags.get(lang or own, EOS)
        save_speech2text(Path(temporary), ours, start)
        write_tokenizer(Path(temporary), vocabulary.to_bytes(), vocabulary.pieces)
        storage.copy_folder(temporary, folder)
    return {"parameters": sum(parameter.numel() for parameter in ours.parameters()), "pieces": len(vocabulary)}
