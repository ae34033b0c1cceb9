from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xlst_ray.config import load
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.llm_options import HttpOptions, PromptOptions
from xlst_ray.mt.options import MODEL_FILES, EngineOptions
from xlst_ray.mt.specification import SamplingOptions


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine=phrasebook"], "needs a table"),
        (["engine=human", "table=x.tsv"], "table is for engine phrasebook"),
        (["engine=phrasebook", "table=x.tsv", "path=model"], "path is for engine trained-lm, .*not phrasebook"),
        (["engine=human", "path=model"], "path is for engine trained-lm, .*not human"),
        (["model=x"], "model is for engine vllm, http, not trained-lm"),
        (["engine=http", "http.url=http://x/v1"], "needs http.url and model"),
        (["engine=http", "model=x"], "needs http.url and model"),
        (["engine=http", "model=x", "http.url=localhost:8000"], "must begin with http"),
        (["engine=http", "model=x", "http.url=http://x", "http.body={stop: [a]}"], "must not have stop"),
        (["engine=http", "model=x", "http.url=http://x", "prompt.shots=2"], "shots and examples need each other"),
        (["engine=vllm", "model=org/x"], "org/x needs a revision"),
        (["engine=vllm", "path=x", "model=org/x", "revision=a1"], "path or model, not both"),
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


def http_options(**changes: Any) -> EngineOptions:
    http = {"url": "http://a/v1", "key_env": "KEY", **changes.pop("http", {})}
    return EngineOptions(engine="http", model="m", http=HttpOptions(**http), **changes)


def test_fingerprints_of_a_served_model_hold_what_it_is_asked_and_not_where_or_with_which_key() -> None:
    def of(options: EngineOptions) -> object:
        return options.label_config(), options.content_fingerprint("cs", "nl")

    same = of(http_options())
    assert of(http_options(http={"url": "http://b/v1", "key_env": "OTHER", "concurrency": 1, "retries": 0})) == same
    for other in (
        http_options(revision="2"),
        http_options(http={"body": {"reasoning_effort": "low"}}),
        http_options(sampling=SamplingOptions(temperature=0.3)),
        http_options(prompt=PromptOptions(preset="eurollm")),
        http_options(prompt=PromptOptions(chat_template_kwargs={"enable_thinking": False})),
        http_options(max_new_tokens_margin=5),
    ):
        assert of(other) != same
    assert http_options().content_fingerprint("cs", "nl") != http_options().content_fingerprint("cs", "de")


def test_fingerprints_of_large_files_hold_samples_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlst_ray.mt.options.LARGE_BYTES", 10_000)
    monkeypatch.setattr("xlst_ray.mt.options.SAMPLE_BYTES", 100)
    for name in MODEL_FILES:
        (tmp_path / name).write_text(name)
    weights = np.arange(60_000, dtype=np.uint32).tobytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    options = EngineOptions(path=str(tmp_path))
    seen = {options.content_fingerprint("cs", "nl")}
    for changed in (weights[:-1] + b"x", b"x" + weights[1:], weights + b"x", bytes(len(weights))):
        (tmp_path / "model.safetensors").write_bytes(changed)
        seen.add(options.content_fingerprint("cs", "nl"))
    assert len(seen) == 5


def test_content_fingerprint_follows_the_bytes_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("cs\tnl\nano\tja\n")
    second.write_text("cs\tnl\nano\tja\n")
    of = [
        EngineOptions(engine="phrasebook", table=str(path)).content_fingerprint("cs", "nl") for path in (first, second)
    ]
    assert of[0] == of[1]
    second.write_text("cs\tnl\nano\tjawel\n")
    assert EngineOptions(engine="phrasebook", table=str(second)).content_fingerprint("cs", "nl") != of[0]


def test_content_fingerprint_sees_every_model_file(tmp_path: Path) -> None:
    for name in MODEL_FILES:
        (tmp_path / name).write_text(name)
    options = EngineOptions(path=str(tmp_path))
    seen = {options.content_fingerprint("cs", "nl")}
    for name in MODEL_FILES:
        (tmp_path / name).write_text("changed")
        seen.add(options.content_fingerprint("cs", "nl"))
    assert len(seen) == len(MODEL_FILES) + 1


def test_a_model_of_ours_under_vllm_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "xlst_mt.json").write_text('{"source": "cs", "target": "nl"}')
    given = {"engine": "vllm", "path": str(tmp_path)}
    with pytest.raises(ConfigError, match="prompt of its own") as raised:
        EngineOptions.model_validate(given).specify("cs", "nl")
    assert raised.value.hint == "set engine.prompt.preset=trained-lm"
    options = EngineOptions.model_validate({**given, "prompt": {"preset": "trained-lm"}})
    assert options.specify("cs", "nl").prompt("dům") == "dům<sep>"
    with pytest.raises(ConfigError, match="translates cs to nl, not cs to fi"):
        options.specify("cs", "fi")


def test_what_decides_only_where_and_how_fast_vllm_runs_is_no_part_of_the_labels() -> None:
    def config(**vllm: object) -> object:
        given = {"engine": "vllm", "model": "org/x", "revision": "a1", "vllm": vllm}
        return EngineOptions.model_validate(given).label_config()

    plain = config()
    assert config(max_num_seqs=8, timeout=5, engine={"gpu_memory_utilization": 0.5, "enforce_eager": True}) == plain
    assert config(dtype="float16") != plain
    assert config(engine={"quantization": "fp8"}) != plain


def test_incomplete_model_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"it has no .*model\.safetensors.*xlst_mt\.json"):
        EngineOptions(path=str(tmp_path)).model_folder()
    with pytest.raises(ConfigError, match="needs a path"):
        EngineOptions().model_folder()
