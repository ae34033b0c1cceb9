import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError, TranslationError
from xlst_ray.mt import labels
from xlst_ray.mt.protocol import Translation, tidy
from xlst_ray.shards.files import label_url, read_labels, shard_urls
from xlst_ray.shards.schema import LABEL_SCHEMA

Write = Callable[..., str]


class Shouting:
    """Translates to capitals, fails on what it is told to, and remembers what it was asked."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.asked: Counter[str] = Counter()
        self._failing = failing

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        self.asked.update(texts)
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Translation:
        if text in self._failing:
            return Translation(None, "error", f"timeout: after {len(text)} s")
        return Translation(text.upper(), "ok")


def rows(*texts: str) -> list[tuple[str, dict[str, str]]]:
    return [(text, {}) for text in texts]


def label(shards: str, folder: str, translator: Shouting, buckets: int = 3, seed: int = 0) -> labels.LabelCounts:
    labels.write_buckets(shards, ["train"], folder, buckets)
    urls = labels.bucket_urls(folder)
    random.Random(seed).shuffle(urls)
    for url in urls:
        labels.translate_bucket(url, translator)
    return labels.sum_counts(labels.assemble_labels(url, folder) for url in shard_urls(shards, "train"))


def content(folder: str) -> dict[str, bytes]:
    return {url[len(folder) :]: storage.read_bytes(url) for url in storage.list_files(folder, recursive=True)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=30), st.integers(1, 9))
def test_every_distinct_sentence_is_in_exactly_one_bucket(
    write_shards: Write, tmp_path: Path, texts: list[str], buckets: int
) -> None:
    folder = str(tmp_path / "labels")
    shutil.rmtree(folder, ignore_errors=True)
    count = labels.write_buckets(write_shards(rows(*texts)), ["train"], folder, buckets)
    found = [text for url in labels.bucket_urls(folder) for text in storage.read_table(url)["text"].to_pylist()]
    assert len(found) == count
    assert sorted(found) == sorted({tidy(text) for text in texts} - {""})


def test_labels_follow_their_shards_row_by_row(write_shards: Write, tmp_path: Path) -> None:
    shards = write_shards(rows("jedna", " dva ", "", "jedna"), rows("tři", "dva"))
    folder = str(tmp_path / "labels")
    translator = Shouting(failing=["tři"])
    counts = label(shards, folder, translator)
    assert translator.asked == Counter(["jedna", "dva", "tři"])
    first, second = shard_urls(shards, "train")
    table = read_labels(first, folder, [f"train-0-{number}" for number in range(4)])
    assert table.schema.equals(LABEL_SCHEMA)
    assert table["translation"].to_pylist() == ["JEDNA", "DVA", None, "JEDNA"]
    assert table["status"].to_pylist() == ["ok", "ok", "missing", "ok"]
    assert pq.read_table(label_url(second, folder))["error"].to_pylist() == ["timeout: after 3 s", None]
    assert counts == {
        "rows": 6,
        "ok": 4,
        "missing": 1,
        "error": 1,
        "reasons": {"empty source": 1, "timeout": 1},
    }


def test_a_second_run_does_nothing_and_counts_the_same(write_shards: Write, tmp_path: Path) -> None:
    shards, folder = write_shards(rows("a", "b", "c", "b"), rows("d")), str(tmp_path / "labels")
    counts = label(shards, folder, Shouting())
    before, again = content(folder), Shouting()
    assert label(shards, folder, again) == counts
    assert not again.asked
    assert content(folder) == before


def test_resume_translates_only_the_bucket_that_is_missing(write_shards: Write, tmp_path: Path) -> None:
    texts = [f"věta {number}" for number in range(40)]
    shards, folder = write_shards(rows(*texts[:25]), rows(*texts[15:])), str(tmp_path / "labels")
    label(shards, folder, Shouting(), buckets=4)
    before = content(folder)
    bucket = labels.bucket_urls(folder)[1]
    storage.delete(bucket.replace(labels.TEXTS, labels.TRANSLATED))
    storage.delete(storage.join(folder, "train"))
    again = Shouting()
    label(shards, folder, again, buckets=4)
    assert sorted(again.asked) == sorted(storage.read_table(bucket)["text"].to_pylist())
    assert content(folder) == before


def test_buckets_may_be_translated_in_any_order(write_shards: Write, tmp_path: Path) -> None:
    shards = write_shards(rows(*(f"věta {number % 30}" for number in range(50))))
    folders = [str(tmp_path / f"labels-{seed}") for seed in range(3)]
    for seed, folder in enumerate(folders):
        label(shards, folder, Shouting(), buckets=6, seed=seed)
    assert content(folders[0]) == content(folders[1]) == content(folders[2])


def test_an_interrupted_bucketing_starts_over(write_shards: Write, tmp_path: Path) -> None:
    shards, folder = write_shards(rows("a", "b", "c")), str(tmp_path / "labels")
    assert labels.write_buckets(shards, ["train"], folder, 5) == 3
    before = content(folder)
    storage.delete(storage.join(folder, "buckets", "index.json"))
    storage.delete(labels.bucket_urls(folder)[0])
    assert labels.write_buckets(shards, ["train"], folder, 5) == 3
    assert content(folder) == before


def test_another_number_of_buckets_is_refused(write_shards: Write, tmp_path: Path) -> None:
    shards, folder = write_shards(rows("a")), str(tmp_path / "labels")
    labels.write_buckets(shards, ["train"], folder, 5)
    with pytest.raises(ConfigError, match="begun with 5 buckets, not 6"):
        labels.write_buckets(shards, ["train"], folder, 6)


def test_labels_wait_for_their_buckets(write_shards: Write, tmp_path: Path) -> None:
    shards, folder = write_shards(rows("a")), str(tmp_path / "labels")
    labels.write_buckets(shards, ["train"], folder, 1)
    with pytest.raises(DataError, match=r"0000\.translated\.parquet"):
        labels.assemble_labels(shard_urls(shards, "train")[0], folder)


def test_buckets_of_other_shards_are_recognised(write_shards: Write, tmp_path: Path) -> None:
    folder = str(tmp_path / "labels")
    label(write_shards(rows("a"), name="one"), folder, Shouting(), buckets=1)
    other = write_shards(rows("a"), rows("b"), name="other")
    with pytest.raises(DataError, match="no translation of 'b'"):
        labels.assemble_labels(shard_urls(other, "train")[1], folder)


def test_an_engine_that_loses_a_sentence_is_refused(write_shards: Write, tmp_path: Path) -> None:
    class Losing(Shouting):
        def translate(self, texts: Sequence[str]) -> list[Translation]:
            return super().translate(texts)[1:]

    shards, folder = write_shards(rows("a", "b")), str(tmp_path / "labels")
    with pytest.raises(TranslationError, match="1 results for 2 sentences"):
        label(shards, folder, Losing(), buckets=1)
    assert not storage.list_files(storage.join(folder, "buckets"), labels.TRANSLATED)


def test_human_labels_are_the_translations_of_the_corpus(write_shards: Write, tmp_path: Path) -> None:
    shards = write_shards([("ano", {"de": "ja", "nl": " jawel\n"}), ("ne", {"de": "nein"}), ("eh", {"nl": " "})])
    folder, (url,) = str(tmp_path / "labels"), shard_urls(shards, "train")
    counts = labels.human_labels(url, folder, "nl")
    assert counts == {"rows": 3, "ok": 1, "missing": 2, "error": 0, "reasons": {"no human translation": 2}}
    table = read_labels(url, folder, ["train-0-0", "train-0-1", "train-0-2"])
    assert table.schema.equals(LABEL_SCHEMA)
    assert table["translation"].to_pylist() == ["jawel", None, None]
    before = content(folder)
    assert labels.human_labels(url, folder, "nl") == counts
    assert content(folder) == before


def test_a_label_file_out_of_step_is_refused(write_shards: Write, tmp_path: Path) -> None:
    folder = str(tmp_path / "labels")
    labels.human_labels(shard_urls(write_shards(rows("a", "b"), name="one"), "train")[0], folder, "nl")
    (url,) = shard_urls(write_shards(rows("a"), name="other"), "train")
    with pytest.raises(DataError, match="out of step"):
        labels.human_labels(url, folder, "nl")
