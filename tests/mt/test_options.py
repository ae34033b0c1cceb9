from pathlib import Path

import pytest

from xlst_ray.config import load
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.options import MODEL_FILES, EngineOptions


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine=phrasebook"], "needs a table"),
        (["engine=human", "table=x.tsv"], "table is for engine phrasebook"),
        (["engine=phrasebook", "table=x.tsv", "path=model"], "path is for engine trained-lm"),
        (["engine=human", "path=model"], "path is for engine trained-lm"),
        (["engine=gpt"], "engine"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(EngineOptions, overrides=overrides)


def test_label_config_holds_what_changes_a_translation() -> None:
    options = EngineOptions(path="somewhere", batch_size=64)
    assert options.label_config() == options.replace(path="elsewhere", batch_size=1).label_config()
    assert options.label_config() != options.replace(max_new_tokens_ratio=3.0).label_config()
    assert options.label_config() != options.replace(max_new_tokens_margin=3).label_config()
    assert EngineOptions(engine="human").label_config() == {"engine": "human"}


def test_content_fingerprint_follows_the_bytes_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("cs\tnl\nano\tja\n")
    second.write_text("cs\tnl\nano\tja\n")
    of = [EngineOptions(engine="phrasebook", table=str(path)).content_fingerprint() for path in (first, second)]
    assert of[0] == of[1]
    second.write_text("cs\tnl\nano\tjawel\n")
    assert EngineOptions(engine="phrasebook", table=str(second)).content_fingerprint() != of[0]


def test_content_fingerprint_sees_every_model_file(tmp_path: Path) -> None:
    for name in MODEL_FILES:
        (tmp_path / name).write_text(name)
    options = EngineOptions(path=str(tmp_path))
    seen = {options.content_fingerprint()}
    for name in MODEL_FILES:
        (tmp_path / name).write_text("changed")
        seen.add(options.content_fingerprint())
    assert len(seen) == len(MODEL_FILES) + 1


def test_incomplete_model_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"it has no .*model\.safetensors.*xlst_mt\.json"):
        EngineOptions(path=str(tmp_path)).model_folder()
    with pytest.raises(ConfigError, match="needs a path"):
        EngineOptions().model_folder()
