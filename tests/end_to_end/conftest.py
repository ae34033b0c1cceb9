"""Experiments small enough for a test: the demo's grammar, a few dozen utterances, a few updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SIZES = {
    "source_train": 48,
    "source_dev": 8,
    "source_test": 8,
    "target_train": 24,
    "target_dev": 8,
    "target_test": 16,
    "mt_pairs": 80,
    "source_train_speakers": 4,
    "target_train_speakers": 3,
    "dev_speakers": 2,
    "test_speakers": 4,
}


def _tiny(workspace: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of an experiment of all parts and no quality."""
    schedule = {"updates": 6, "lr": 1e-3, "warmup": 2, "validate_every": 3, "average": 2, "log_every": 3}
    phase = {"train": schedule, "batch": {"max_utterances": 8, "max_frames": 4000, "max_ctc_infeasible": 1.0}}
    corpus = {"reader": "demo", "demo": SIZES}
    return {
        "name": "tiny",
        "workspace": str(workspace),
        "source": {"corpus": {**corpus, "lang": "en"}, "shards": {"rows_per_shard": 16}},
        "target": {"corpus": {**corpus, "lang": "fi"}, "shards": {"rows_per_shard": 16}},
        "vocabulary": {"size": 120},
        "model": {"size": "debug"},
        "leakage": {"drop": ["labels-*"]},
        "asr": phase,
        "st": phase,
        "finetune": phase,
        "joint": phase,
        "evaluate": {"beam": {"beam": 2, "max_tokens_ratio": 0.2}, "score": {"resamples": 200}},
        "engines": {
            "lm": {
                "labels": {"engine": {"engine": "trained-lm"}, "buckets": 2},
                "mt": {
                    "pairs": {"grammar": {"kind": "demo", "demo": SIZES}},
                    "model": {"dim": 64, "layers": 2, "heads": 2, "ffn": 128, "vocabulary": 400},
                    # enough for most translations to come to an end
                    "train": {**schedule, "updates": 90, "lr": 5e-3, "validate_every": 45, "ctc_weight": 0.0},
                    "dev_pairs": 10,
                },
            }
        },
        "cluster": {"workers": 0, "worker_threads": 1},
        **changes,
    }


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    return _tiny


@pytest.fixture(scope="session")
def write_config() -> Callable[[dict[str, Any], Path], Path]:
    def write(config: dict[str, Any], path: Path) -> Path:
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return write
