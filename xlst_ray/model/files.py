"""A model in a local folder: `model.safetensors` and `model.json`; transformers' layout is read, too."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xlst_ray.audio.fbank import SAMPLE_RATE
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.encoders import PretrainedEncoder
from xlst_ray.model.options import Architecture
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import is_speech2text, load_speech2text

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
_AGAIN = "is it cut off, or of another program? Fetch it again, or run the job again that made it, with another out"


def save_model(folder: Path, model: S2TModel) -> None:
    """Writes the model's weights and what it takes to build it again; the folder is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    description = {
        "architecture": model.architecture.to_json(),
        "vocabulary_size": model.vocabulary_size,
        "input_dim": model.input_dim,
    }
    if model.pretrained is not None:
        description["pretrained"] = model.pretrained.description()
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path) -> S2TModel:
    """The model of a folder, ours or one in transformers' Speech2Text layout, on the CPU, in evaluation mode.

    Raises:
        DataError: a file is missing, cut off, or the weights are not those of the description.
    """
    if not (folder / DESCRIPTION).is_file() and is_speech2text(folder):
        return load_speech2text(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
        model = S2TModel(
            Architecture.from_json(description["architecture"]),
            description["vocabulary_size"],
            description["input_dim"],
            _pretrained(description.get("pretrained")),
        )
        model.load_state_dict(weights)
    except FileNotFoundError as error:
        raise DataError(
            f"no model here: {Path(error.filename or WEIGHTS).name} is missing",
            where=str(folder),
            hint=f"a model folder holds {DESCRIPTION} and {WEIGHTS}",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ConfigError) as error:
        raise DataError(f"cannot be read as a model ({error})", where=str(folder), hint=_AGAIN) from error
    except RuntimeError as error:  # torch's word for missing, unknown and misshapen parameters
        raise DataError(f"{WEIGHTS} is not what {DESCRIPTION} describes: {error}", where=str(folder)) from None
    return model.eval()


def read_longest(folder: Path) -> float | None:
    """Seconds of an utterance that the model of a folder hears, where it reads the audio; none: all.

    Raises:
        DataError: its description is damaged.
    """
    path = folder / DESCRIPTION
    try:
        about = json.loads(path.read_text(encoding="utf-8")).get("pretrained") if path.is_file() else None
    except (ValueError, AttributeError) as error:
        raise DataError(f"cannot be read as a model ({error})", where=str(folder), hint=_AGAIN) from None
    if about is None:
        return None
    from xlst_ray.model.frontend import OwnFeatures  # imported here as below

    samples = OwnFeatures(**about["frontend"]).longest
    return None if samples is None else samples / SAMPLE_RATE


def _pretrained(description: dict[str, Any] | None) -> PretrainedEncoder | None:
    if description is None:
        return None
    # Imported here: transformers takes seconds, and most models do without it.
    from xlst_ray.model.pretrained import make_pretrained

    return make_pretrained(description)
