"""The estimate of quality against transformers' own pipeline, pair by pair, and folders that are no such models."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_models import save_quality_model
from safetensors.torch import load_file, save_file
from transformers import pipeline

from xlst_ray.errors import ConfigError, DataError, XlstError
from xlst_ray.mt.protocol import tidy
from xlst_ray.mt.quality import QualityOptions, join_pair, quality_fingerprint
from xlst_ray.mt.quality_model import QualityModel

PAIRS = [
    ("the old cat sleeps here", "vanha kissa nukkuu tässä"),
    ("the house is red", "talo on punainen"),
    ("a cat", "kissa"),
    ("a cat", "talo"),
    ("kissa", "a cat"),
    ("the small house is in the old house", "pieni talo on"),
    ("unheard words", "tuntemattomia sanoja"),
]
LONG = ("the old cat " * 4, "vanha kissa " * 5)


def estimates(folder: Path, pairs: list[tuple[str, str]], batch_size: int = 3) -> list[Any]:
    model = QualityModel(QualityOptions(path=str(folder), batch_size=batch_size))
    return model.translate([join_pair(*pair) for pair in pairs])


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
def test_estimates_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = save_quality_model(tmp_path / kind, kind)
    alone = pipeline("text-classification", str(folder), function_to_apply="none", device="cpu")
    expected = [alone({"text": text, "text_pair": translation})["score"] for text, translation in PAIRS]
    results = estimates(folder, PAIRS)
    assert {result.status for result in results} == {"ok"}
    assert [float(result.text) for result in results] == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1, "else anything would pass"
    assert abs(expected[3] - expected[2]) > 1e-3 < abs(expected[4] - expected[2]), "both sides and their order matter"


def test_a_pair_that_is_too_long_is_an_error_of_its_own(tmp_path: Path) -> None:
    folder = save_quality_model(tmp_path)
    first, long, last = estimates(folder, [PAIRS[0], LONG, PAIRS[1]])
    assert (long.status, long.error) == ("error", "too long for the quality model")
    assert [first, last] == estimates(folder, PAIRS[:2])
    just = ("cat " * 10, "kissa " * 10)  # and four marks: as long as the model is
    assert [result.status for result in estimates(folder, [just, (just[0], just[1] + "talo")])] == ["ok", "error"]


@given(st.text(), st.text())
def test_pairs_stay_apart_as_one_string(text: str, translation: str) -> None:
    joined = join_pair(text, translation)
    assert tidy(joined) == joined
    assert json.loads(joined) == [tidy(text), tidy(translation)]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, same = save_quality_model(tmp_path / "one"), save_quality_model(tmp_path / "same")
    other = save_quality_model(tmp_path / "other", seed=1)
    assert quality_fingerprint(str(one)) == quality_fingerprint(str(same)) != quality_fingerprint(str(other))


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def without_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "kind", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), ConfigError, "it has no config.json"),
        (lambda folder: change_config(folder, architectures=["XLMRobertaModel"]), ConfigError, "tells of XLMRobertaMo"),
        (lambda folder: change_config(folder, architectures=None), ConfigError, "tells of no architecture"),
        (lambda folder: save_quality_model(folder, outputs=3), ConfigError, "Classification with 3 outputs"),
        (without_head, DataError, "lacks weights of a model of quality estimation"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), DataError, "cannot be loaded as a mo"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), DataError, "cannot be loaded as a mo"),
    ],
)
def test_a_folder_that_is_no_such_model_is_refused(harm: Any, kind: type[XlstError], says: str, tmp_path: Path) -> None:
    save_quality_model(tmp_path)
    harm(tmp_path)
    with pytest.raises(kind, match=says) as raised:
        QualityModel(QualityOptions(path=str(tmp_path)))
    assert "\n" not in raised.value.what
    assert "TransQuest" in str(raised.value.hint)
