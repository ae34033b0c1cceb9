"""Estimates of quality beside labels: each distinct pair once, also over runs, and what thresholds make of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality_models import save_quality_model
from text_shards import write_text_shards

from xlst_ray import storage
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import DataError
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.quality import QualityOptions, join_pair
from xlst_ray.mt.quality_model import QualityModel
from xlst_ray.shards.files import read_labels, read_shard, shard_urls
from xlst_ray.shards.scores import read_refusals, read_scores
from xlst_ray.stages import quality
from xlst_ray.stages.pseudo_label import LabelOptions, open_labelling
from xlst_ray.stages.score_labels import score_and_report
from xlst_ray.stages.stage import finished
from xlst_ray.text.keep import NAMES, KeepOptions

ALONE = ClusterOptions(translators=0)
TEXTS = [
    ["the old cat sleeps", "a small house", "the old  cat sleeps", "unknown to the book"],
    ["a small house", "the house is red", "the cat"],
]
BOOK = {"the old cat sleeps": "vanha kissa nukkuu", "a small house": "pieni talo", "the house is red": "talo on"}
NONE = dict.fromkeys(NAMES)


def label(folder: Path, book: dict[str, str], texts: Sequence[Sequence[str]] = TEXTS, name: str = "labels") -> str:
    shards = write_text_shards(folder / f"shards-{name}", texts)
    table = folder / f"{name}.tsv"
    table.write_text("en\tfi\n" + "".join(f"{text}\t{translation}\n" for text, translation in book.items()))
    options = LabelOptions(engine=EngineOptions(engine="phrasebook", table=str(table)))
    labels = folder / name
    labelling = open_labelling(options, shards.folder, ["fi"], str(labels), None, ALONE)
    labelling.run()
    return str(labels)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pairs that models have read."""
    pairs: list[str] = []

    class Notes(QualityModel):
        def translate(self, texts: Sequence[str]) -> list[Translation]:
            pairs.extend(texts)
            return super().translate(texts)

    monkeypatch.setattr(quality, "_open", lambda options, gpu, _: Notes(options, gpu=gpu))
    return pairs


def score(
    folder: Path, model: Path | None, name: str = "labels", cluster: ClusterOptions = ALONE, **keep: Any
) -> dict[str, Any]:
    """Scores of every row by shard, after the job's last step."""
    shards, labels = str(folder / f"shards-{name}"), str(folder / name)
    options = QualityOptions(path=None if model is None else str(model))
    thresholds = KeepOptions(**{**NONE, **keep})
    score_and_report(shards, labels, thresholds, options, str(folder / "translations"), cluster)
    found: dict[str, Any] = {}
    for url in shard_urls(shards, "train"):
        ids = read_shard(url, ["id"])["id"].to_pylist()
        scores, refused = read_scores(url, labels, ids), read_refusals(url, labels, ids, thresholds)
        translations = read_labels(url, labels, ids)["translation"].to_pylist()
        for row, name_ in enumerate(ids):
            found[name_] = (translations[row], scores.get("quality", {row: None})[row], refused[row])
    return found


def test_each_distinct_pair_is_estimated_once_and_lies_beside_its_rows(tmp_path: Path, asked: list[str]) -> None:
    label(tmp_path, BOOK)
    model = save_quality_model(tmp_path / "model")
    found = score(tmp_path, model)
    pairs = {join_pair(text, translation) for text, translation in BOOK.items()}
    assert sorted(asked) == sorted(pairs)
    own = QualityModel(QualityOptions(path=str(model)))
    for shard, texts in enumerate(TEXTS):
        for row, text in enumerate(texts):
            translation, estimate, refused = found[f"{shard}-{row}"]
            assert refused is None
            if translation is None:
                assert np.isnan(estimate)
            else:
                expected = float(str(own.translate([join_pair(text, translation)])[0].text))
                assert estimate == pytest.approx(expected, abs=1e-5)
    counts = finished(str(tmp_path / "labels" / "quality"), "content").counts
    assert (counts["rows"], counts["estimated"]) == (7, 5)
    assert not storage.exists(str(tmp_path / "labels" / "quality" / "answers")), "pairs do not stay"

    asked.clear()
    again = score(tmp_path, model)
    assert not asked
    assert str(again) == str(found)


def test_processes_of_a_cluster_estimate_as_this_one_does(ray_cluster: None, tmp_path: Path) -> None:
    model = save_quality_model(tmp_path / "model")
    for name in ("here", "there"):
        label(tmp_path, BOOK, name=name)
    here = score(tmp_path, model, "here")
    storage.delete(str(tmp_path / "translations"))
    there = score(tmp_path, model, "there", ClusterOptions(translators=2, translator_cpus=0.5))
    assert here.keys() == there.keys()
    for name, (translation, estimate, refused) in here.items():
        assert there[name][::2] == (translation, refused)
        assert there[name][1] == pytest.approx(estimate, abs=1e-5, nan_ok=True)
    counts = finished(str(tmp_path / "there" / "quality"), "content").counts["estimation"]
    assert (counts["found"], counts["sentences"]) == (0, 3)


def test_another_corpus_finds_what_is_known(tmp_path: Path, asked: list[str]) -> None:
    model = save_quality_model(tmp_path / "model")
    label(tmp_path, BOOK)
    score(tmp_path, model)
    asked.clear()
    label(tmp_path, {**BOOK, "the cat": "kissa"}, [["the cat", "the house is red"]], "more")
    score(tmp_path, model, "more")
    assert asked == [join_pair("the cat", "kissa")]


def test_a_threshold_refuses_and_is_seen_on_the_page(tmp_path: Path) -> None:
    labels = label(tmp_path, BOOK)
    found = score(tmp_path, save_quality_model(tmp_path / "model"))
    values = sorted({estimate for translation, estimate, _ in found.values() if translation is not None})
    between = (values[0] + values[1]) / 2
    thresholded = score(tmp_path, None, quality=between)
    assert {name for name, (_, _, refused) in thresholded.items() if refused == "quality"} == {
        name for name, (_, estimate, _) in found.items() if estimate == values[0]
    }
    page = storage.read_bytes(f"{labels}/labels.html").decode()
    assert "Refused: quality" in page
    assert ">quality<" in page.replace("\n", "") or "quality" in page.partition("scores of the labels")[2]


def test_without_estimates_a_threshold_on_them_is_refused(tmp_path: Path) -> None:
    label(tmp_path, BOOK)
    assert score(tmp_path, None)["0-0"][1] is None
    with pytest.raises(DataError, match=r"no estimates of their quality") as raised:
        score(tmp_path, None, quality=0.5)
    assert "quality.path" in str(raised.value.hint)


def test_another_model_and_changed_labels_replace_the_estimates(tmp_path: Path, asked: list[str]) -> None:
    labels = label(tmp_path, BOOK)
    one, other = save_quality_model(tmp_path / "one"), save_quality_model(tmp_path / "other", seed=1)
    first, second = score(tmp_path, one), score(tmp_path, other)
    assert first["0-0"][1] != pytest.approx(second["0-0"][1], abs=1e-3)
    asked.clear()
    assert str(score(tmp_path, one)) == str(first)
    assert not asked, "what a model has found is kept"

    manifest = storage.read_json(f"{labels}/manifest.json")  # as after another attempt
    storage.write_json(f"{labels}/manifest.json", {**manifest, "counts": {**manifest["counts"], "content": 5}})
    assert score(tmp_path, None)["0-0"][1] is None, "estimates of other labels are none of these"
