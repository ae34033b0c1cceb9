"""Folders of states, and the models that read them: which encoder's they are."""

from pathlib import Path
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError
from xlst_ray.model.options import EncoderName
from xlst_ray.stages.stage import finished

ABOUT: Final = "encoder.json"
"""File of a model folder, where the model reads states: of which encoder."""


class EncoderOptions(Section):
    """A frozen pretrained encoder, whose states are computed once and kept."""

    path: EncoderName | None = option(
        None,
        "folder of an encoder of transformers, or its name on the Hugging Face Hub: Whisper, wav2vec 2.0 (XLS-R, MMS), "
        "w2v-BERT 2.0; none: no such encoder",
    )
    revision: str | None = option(None, "commit, branch or tag on the Hub; none: the newest")
    layers: int | None = option(None, "its lowest layers, which are used; none: all", unit="layers", ge=1)
    batch: int = option(1, "utterances of like length that are encoded together: on a GPU, more", ge=1)


def about_states(folder: str) -> dict[str, Any]:
    """Of which encoder the states of a folder are: `path`, `revision`, `layers`, `fingerprint`, and their `dim` D.

    Raises:
        DataError: the folder is not that of finished states.
    """
    about: dict[str, Any] = finished(folder, "encoder").counts["about"]
    return about


def about_model(model: Path) -> dict[str, Any] | None:
    """The same of a model folder; none where the model reads filterbanks."""
    return storage.read_json(str(model / ABOUT)) if (model / ABOUT).is_file() else None


def check_states(model: Path, states: str | None) -> None:
    """Raises `DataError` where a model does not read what it is to be given: these states; none: filterbanks."""
    needed, given = about_model(model), None if states is None else about_states(states)
    if needed is None and given is None:
        return
    if needed is None:
        raise DataError("reads filterbanks, not states", where=str(model), hint="leave states out")
    if given is None:
        raise DataError(
            f"reads the states of {needed['path']}",
            where=str(model),
            hint="make them with jobs/encode.py, name states=",
        )
    different = [name for name in ("fingerprint", "layers") if needed[name] != given[name]]
    if different:
        raise DataError(
            f"reads the states of another encoder ({needed['path']}; {', '.join(different)} differ)", where=str(model)
        )
