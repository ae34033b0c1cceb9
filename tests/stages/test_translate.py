"""Translation on a cluster whose workers die, and by an engine that the cluster runs."""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import TranslationError
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translate import Done
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.files import shard_urls
from xlst_ray.stages.source_texts import prepare_texts
from xlst_ray.stages.translate import LlmBuckets, LlmEngine, Wanted, estimate, translate

CLUSTER = ClusterOptions(translators=1, translator_cpus=0.5)
ALONE = ClusterOptions(translators=0)
TEXTS = [f"sentence {number}" for number in range(120)]


class Mortal:
    """Notes what it is asked in a file; dies by signal 9, once, in its fourth call."""

    def __init__(self, folder: str, target: str) -> None:
        self._folder = Path(folder)

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        with (self._folder / "asked").open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        calls, died = self._folder / "calls", self._folder / "died"
        with calls.open("a") as file:
            file.write("x")
        if calls.stat().st_size >= 4 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [Translation(text.upper(), "ok") for text in texts]


def prepare(folder: Path, cluster: ClusterOptions) -> SourceTexts:
    from text_shards import write_text_shards  # here: Ray's workers import this file without tests/ on their path

    shards = write_text_shards(folder / "shards", [TEXTS])
    return prepare_texts(shards, shard_urls(shards.folder, "train"), len(TEXTS), 8, str(folder), cluster)[0]


def test_a_worker_that_is_killed_costs_its_bucket_and_no_finished_one(ray_cluster: None, tmp_path: Path) -> None:
    texts = prepare(tmp_path, CLUSTER)
    kept = Translations(f"{tmp_path}/kept")
    wanted = [Wanted("translate", "fi", kept, "run")]
    (counts,) = translate(texts, wanted, partial(Mortal, str(tmp_path)), PriceOptions(), CLUSTER)
    assert (tmp_path / "died").exists()
    asked = Counter((tmp_path / "asked").read_text().splitlines())
    again = {text for text, times in asked.items() if times > 1}
    lost = [bucket for bucket in range(8) if again & set(texts.bucket(bucket).to_pylist())]
    assert len(lost) == 1
    assert again == set(texts.bucket(lost[0]).to_pylist())
    assert max(asked.values()) == 2
    table = kept.read("")
    assert dict(zip(table["text"].to_pylist(), table["translation"].to_pylist(), strict=True)) == {
        text: text.upper() for text in TEXTS
    }
    assert counts["sentences"] == len(TEXTS)
    assert len(storage.list_files(kept.folder, ".parquet")) == 8


class Shouts:
    """Shouts, and notes what it is asked; before its first answer another run, which it is given, has its way."""

    def __init__(self, asked: list[str], other: Callable[[], object] = lambda: None) -> None:
        self._asked, self._other = asked, other

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        other, self._other = self._other, lambda: None
        other()
        self._asked += texts
        return [Translation(text.upper(), "ok") for text in texts]


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    texts = prepare(tmp_path, ALONE)
    wanted = [Wanted("translate", "fi", Translations(f"{tmp_path}/kept"), "run")]
    first: list[str] = []
    second: list[str] = []

    def run(shouts: Shouts) -> None:
        translate(texts, wanted, lambda _: shouts, PriceOptions(), ALONE)

    random.seed(0)
    run(Shouts(first, lambda: run(Shouts(second))))
    assert sorted(second) == sorted(TEXTS)
    assert first == texts.bucket(next(b for b in range(8) if first[0] in texts.bucket(b).to_pylist())).to_pylist()
    assert first[0] != second[0], "each begins elsewhere, so that they meet in few buckets"
    assert sorted(wanted[0].translations.read("")["text"].to_pylist()) == sorted(TEXTS)


@dataclass
class Llm:
    """In place of `translate_with_llm`: shouts; keeps nothing of the buckets that it loses in its first pass."""

    loses: int
    passes: int = 0

    def __call__(
        self, title: str, items: Sequence[Any], work: LlmBuckets, options: EngineOptions, cluster: ClusterOptions
    ) -> Iterator[tuple[Done, float]]:
        self.passes += 1
        for place, item in enumerate(items):
            texts = work.load(item)
            assert work.specification(item).target.code == "fi"
            if self.passes > 1 or place >= self.loses:
                for start in range(0, len(texts), 7):
                    part = texts[start : start + 7]
                    yield work.keep(item, part, [Translation(text.upper(), "ok", None, 2, 1) for text in part]), 0.5


def open_llm(folder: Path) -> tuple[SourceTexts, list[Wanted], LlmEngine]:
    texts = prepare(folder, ALONE)
    options = EngineOptions.model_validate({"engine": "vllm", "path": "/models/x"})
    wanted = [Wanted("translate", "fi", Translations(f"{folder}/kept"), "run")]
    return texts, wanted, LlmEngine(options, {"fi": options.specify("en", "fi")})


def test_what_an_engine_of_the_cluster_loses_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, wanted, engine = open_llm(tmp_path)
    llm = Llm(loses=3)
    monkeypatch.setattr("xlst_ray.stages.translate.translate_with_llm", llm)
    (counts,) = translate(texts, wanted, engine, PriceOptions(), ALONE)
    assert llm.passes == 2
    kept = wanted[0].translations.read("").to_pylist()
    assert {row["text"]: row["translation"] for row in kept} == {text: text.upper() for text in TEXTS}
    assert (counts["sentences"], counts["input_tokens"], counts["output_tokens"]) == (120, 240, 120)
    assert translate(texts, wanted, engine, PriceOptions(), ALONE)[0]["found"] == 120
    assert llm.passes == 2, "nothing is left to ask"


def test_an_engine_of_the_cluster_that_loses_everything_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, wanted, engine = open_llm(tmp_path)
    monkeypatch.setattr("xlst_ray.stages.translate.translate_with_llm", Llm(loses=99))
    with pytest.raises(TranslationError, match="120 sentences went through the engine and were lost"):
        translate(texts, wanted, engine, PriceOptions(), ALONE)


def test_a_sample_by_an_engine_of_the_cluster_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, wanted, engine = open_llm(tmp_path)
    monkeypatch.setattr("xlst_ray.stages.translate.translate_with_llm", Llm(loses=0))
    estimate(texts, wanted, engine, PriceOptions(), ALONE, limit=20)
    out = capsys.readouterr().out
    assert out.count("    -> SENTENCE") == 10
    assert "2.0 tokens read and 1.0 written; 20 of 20 ok" in out
    assert len(wanted[0].translations.read("")) == 20
