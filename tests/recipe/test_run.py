"""What the arms of an experiment are trained on."""

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import tones

from xlst_ray.audio.fbank import SAMPLE_RATE
from xlst_ray.recipe.arms import Start
from xlst_ray.recipe.options import Experiment
from xlst_ray.recipe.run import Recipe

SAID = {"train": ["ab", "cd", "fg"], "dev": ["de"], "test": ["ab"]}  # the test sentence is trained on, too


def write_corpus(folder: Path) -> dict[str, Any]:
    """Speech in tones whose translation is what is said."""
    for split, texts in SAID.items():
        rows = []
        for number, text in enumerate(texts):
            rows.append({"audio": f"{split}-{number}.wav", "text": text, "translations": {"fi": text}})
            folder.mkdir(exist_ok=True)
            soundfile.write(folder / f"{split}-{number}.wav", tones.wave(text, seed=number), SAMPLE_RATE)
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {"reader": "manifest", "path": str(folder)}


@pytest.mark.parametrize("dropped", [["target-train"], ["labels-human"], ["*"], []])
def test_in_the_joint_arm_held_out_sentences_are_left_out_of_the_texts_that_are_named(
    tmp_path: Path, dropped: list[str]
) -> None:
    phase = {
        "train": {"updates": 1, "warmup": 0, "validate_every": 1, "average": 1},
        "batch": {"max_ctc_infeasible": 1.0},
        "augment": {"policy": "none"},
    }
    config = {
        "name": "joint",
        "workspace": str(tmp_path / "runs"),
        "source": {"corpus": {**write_corpus(tmp_path / "en"), "lang": "en"}},
        "target": {"corpus": {**write_corpus(tmp_path / "fi"), "lang": "fi"}},
        "vocabulary": {"kind": "char"},
        "model": {"size": "debug"},
        "arms": ["joint"],
        "leakage": {"drop": dropped, "allow": ["*"]},
        "asr": phase,
        "joint": phase,
        "cluster": {"workers": 0, "translators": 0},
    }
    recipe = Recipe(Experiment.model_validate(config))
    named = [bool({"*", name} & set(dropped)) for name in ("target-train", "labels-human")]
    counts = recipe.target_asr(Start("joint", "human"), 1).counts
    assert counts.get("held-out sentence", 0) == sum(named)
    assert counts["kept"] == 6 - sum(named)
    data = recipe.target_data(Start("joint", "human"), 1)
    ((labels, _),) = data.further.values()
    assert [data.train.held_out is not None, labels.held_out is not None] == named
