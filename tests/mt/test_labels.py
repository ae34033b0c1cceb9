"""Transcripts to label files without a cluster: buckets, translations, answers, labels."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from xlst_ray import storage
from xlst_ray.errors import DataError, TranslationError
from xlst_ray.mt import labels, translate
from xlst_ray.mt.buckets import SourceTexts
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translations import Translations
from xlst_ray.shards.files import label_url, read_labels, shard_urls
from xlst_ray.shards.schema import LABEL_SCHEMA

Write = Callable[..., str]


class Shouting:
    """Translates to capitals, fails on what it is told to, and remembers what it was asked."""

    def __init__(self, failing: Sequence[str] = (), tokens: int = 0, dies_at: int = 10**9) -> None:
        self.asked: Counter[str] = Counter()
        self._failing, self._tokens, self._dies_at = failing, tokens, dies_at

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        if sum(self.asked.values()) >= self._dies_at:
            raise TranslationError("the server is gone")
        self.asked.update(texts)
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Translation:
        if text in self._failing:
            return Translation(None, "error", f"timeout: after {len(text)} s")
        return Translation(text.upper(), "ok", None, self._tokens, self._tokens)


@dataclass
class Run:
    """A label set without a cluster; `label` does what is missing."""

    shards: str
    folder: str
    kept: Translations
    buckets: int = 4
    attempt: int = 0
    done: list[translate.Done] = field(default_factory=list)

    @property
    def texts(self) -> SourceTexts:
        rows = sum(len(storage.read_table(url, ["id"])) for url in shard_urls(self.shards, "train"))
        return SourceTexts(f"{self.shards}-texts-{self.buckets}", rows, len(self.groups), self.buckets)

    @property
    def groups(self) -> list[list[str]]:
        urls = shard_urls(self.shards, "train")
        return [urls[:1], urls[1:]] if len(urls) > 1 else [urls]

    def label(self, translator: Shouting, seed: int = 0) -> labels.LabelCounts:
        texts = self.texts
        for group, urls in enumerate(self.groups):
            texts.split(group, urls)
        for block in range(texts.blocks):
            texts.gather(block)
        buckets = random.Random(seed).sample(range(texts.buckets), texts.buckets)
        self.done = [
            translate.translate_bucket(texts, bucket, self.kept, translator, run="r", attempt=self.attempt)
            for bucket in buckets
        ]
        return self.assemble()

    def assemble(self) -> labels.LabelCounts:
        for block in range(self.texts.blocks):
            labels.answer(self.texts, block, self.kept, self.folder, self.attempt)
        return labels.sum_counts(
            labels.assemble_labels(self.texts, group, urls, self.folder, self.attempt, replace=self.attempt > 0)
            for group, urls in enumerate(self.groups)
        )

    def files(self) -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(self.folder).glob("train/*")}


Start = Callable[..., Run]


@pytest.fixture
def start(write_shards: Write, tmp_path: Path) -> Start:
    """Label sets with one folder of translations; each has shards and labels of its own name."""

    def make(*shards: Sequence[str], name: str = "one", buckets: int = 4) -> Run:
        source = write_shards(*([(text, {}) for text in texts] for texts in shards), name=f"shards-{name}")
        return Run(source, str(tmp_path / f"labels-{name}"), Translations(str(tmp_path / "kept")), buckets)

    return make


def test_labels_follow_their_shards_row_by_row(start: Start) -> None:
    run, translator = start(["jedna", " dva ", "", "jedna"], ["tři", "dva"]), Shouting(failing=["tři"])
    counts = run.label(translator)
    assert translator.asked == Counter(["jedna", "dva", "tři"])
    first, second = shard_urls(run.shards, "train")
    table = read_labels(first, run.folder, [f"train-0-{number}" for number in range(4)])
    assert table.schema.equals(LABEL_SCHEMA)
    assert table["translation"].to_pylist() == ["JEDNA", "DVA", None, "JEDNA"]
    assert table["status"].to_pylist() == ["ok", "ok", "missing", "ok"]
    assert pq.read_table(label_url(second, run.folder))["error"].to_pylist() == ["timeout: after 3 s", None]
    content = counts.pop("content")  # type: ignore[misc]
    assert 0 < content < 2**64
    assert counts == {"rows": 6, "ok": 4, "missing": 1, "error": 1, "reasons": {"empty source": 1, "timeout": 1}}


def test_a_second_run_does_nothing_and_counts_the_same(start: Start) -> None:
    run, again = start(["a", "b", "c", "b"], ["d"]), Shouting()
    counts = run.label(Shouting())
    before = run.files()
    assert run.label(again) == counts
    assert not again.asked
    assert run.files() == before


def test_answers_that_another_run_has_deleted_at_its_end_are_said(start: Start) -> None:
    run = start(["a", "b"])
    run.label(Shouting())
    storage.delete(f"{run.folder}/answers")
    with pytest.raises(DataError, match=r"answers/.*/0/0000.arrow: no such file\n.*another run finished meanwhile"):
        labels.assemble_labels(run.texts, 0, run.groups[0], run.folder, 0, replace=False)


def test_a_run_over_other_shards_and_other_buckets_asks_only_for_what_is_new(start: Start) -> None:
    start(["a", "b", "c"], ["d"], buckets=4).label(Shouting(failing=["b"]))
    for number, buckets in enumerate((1, 4, 16)):
        new, translator = f"new {number}", Shouting()
        other = start(["d", new, "b"], [" a", new], name=f"other-{number}", buckets=buckets)
        counts = other.label(translator)
        assert translator.asked == Counter([new])
        assert (counts["ok"], counts["error"]) == (4, 1)
        found = [storage.read_table(label_url(url, other.folder))["translation"].to_pylist()
                 for url in shard_urls(other.shards, "train")]  # fmt: skip
        assert found == [["D", new.upper(), None], ["A", new.upper()]]


def test_other_buckets_after_a_kill_give_each_row_its_own_label(start: Start) -> None:
    texts = [f"věta {number}" for number in range(60)]
    run = start(texts[:35], texts[35:], buckets=4)
    run.label(Shouting())
    storage.delete(f"{run.folder}/train")  # the kill: answers are there, label files are not
    run.buckets = 16
    run.label(Shouting())
    tables = [storage.read_table(label_url(url, run.folder)) for url in shard_urls(run.shards, "train")]
    assert [text for table in tables for text in table["translation"].to_pylist()] == [t.upper() for t in texts]


def test_resume_translates_only_the_bucket_that_is_missing(start: Start) -> None:
    texts = [f"věta {number}" for number in range(40)]
    run, again = start(texts[:25], texts[15:]), Shouting()
    run.label(Shouting())
    before = run.files()
    gone = storage.list_files(run.kept.folder)[1]
    missing = storage.read_table(gone)["text"].to_pylist()
    storage.delete(gone)
    for path in before:
        path.unlink()
    run.label(again)
    assert sorted(again.asked) == sorted(missing)
    assert {path: content for path, (content, _) in run.files().items()} == {p: c for p, (c, _) in before.items()}


def test_buckets_may_be_translated_in_any_order(start: Start) -> None:
    texts = [f"věta {number % 30}" for number in range(50)]
    contents = set()
    for seed in range(3):
        run = start(texts, name=str(seed), buckets=8)
        run.kept = Translations(f"{run.kept.folder}-{seed}")
        contents.add(run.label(Shouting(), seed=seed)["content"])
    assert len(contents) == 1


def test_errors_alone_are_sent_again_and_only_their_label_files_replaced(start: Start) -> None:
    run = start(["a", "b", "a"], ["c", "d"])
    before = run.label(Shouting(failing=["b", "never"]))
    files, run.attempt, again = run.files(), 1, Shouting()
    counts = run.label(again)
    assert again.asked == Counter(["b"])
    assert (before["error"], counts["error"], counts["ok"]) == (1, 0, 5)
    assert before["content"] != counts["content"]
    untouched = {path for path, found in run.files().items() if files[path] == found}
    assert {path.name for path in untouched} == {"shard-00001.parquet"}
    assert storage.read_table(label_url(shard_urls(run.shards, "train")[0], run.folder))["error"].null_count == 3


def test_a_retry_that_was_cut_off_sends_nothing_twice(start: Start) -> None:
    run = start([f"{number}" for number in range(20)])
    failing = [f"{number}" for number in range(0, 20, 2)]
    run.label(Shouting(failing=failing))
    run.attempt, still = 1, Shouting(failing=failing[:3])
    run.label(still)
    assert sorted(still.asked) == sorted(failing)
    again = Shouting()
    run.label(again)
    assert not again.asked
    run.attempt = 2
    run.label(again)
    assert sorted(again.asked) == sorted(failing[:3])


def test_what_an_engine_has_done_before_it_died_is_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "PORTION", 4)
    run, dying, again = start([f"{number}" for number in range(20)], buckets=1), Shouting(dies_at=8), Shouting()
    with pytest.raises(TranslationError, match="the server is gone"):
        run.label(dying)
    assert sum(dying.asked.values()) == 8
    run.label(again)
    assert dying.asked + again.asked == Counter(f"{number}" for number in range(20))


def test_a_budget_stops_before_a_call_that_it_does_not_pay(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "CAPPED_PORTION", 5)
    run = start([f"{number}" for number in range(20)], buckets=1)
    run.texts.split(0, run.groups[0])
    run.texts.gather(0)
    price = PriceOptions(input=1e6, output=2e6, cap=100)  # 3 a token pair

    def spend(budget: float, tokens: int = 1) -> translate.Done:
        engine = Shouting(tokens=tokens)
        return translate.translate_bucket(run.texts, 0, run.kept, engine, run="r", price=price, budget=budget)

    done = spend(44)
    assert (done["sentences"], done["output_tokens"]) == (10, 10)
    assert run.kept.tokens_of("", "r") == (10, 10)
    assert spend(1)["sentences"] == 5, "the first call tells what sentences cost"
    assert spend(1e9)["sentences"] == 5
    run.kept = Translations(f"{run.kept.folder}-other")
    with pytest.raises(TranslationError, match="counts no tokens"):
        spend(16, tokens=0)


def test_a_limit_takes_sentences_from_everywhere_and_shows_some(start: Start) -> None:
    run = start([f"{number:02d}" for number in range(50)], buckets=1)
    run.texts.split(0, run.groups[0])
    run.texts.gather(0)
    done = translate.translate_bucket(run.texts, 0, run.kept, Shouting(failing=["00"]), run="r", most=25)
    assert (done["sentences"], done["ok"], done["reasons"]) == (25, 24, {"timeout": 1})
    assert len(done["samples"]) == translate.SAMPLES
    assert done["samples"][0] == ("00", "(timeout: after 2 s)")
    assert int(done["samples"][-1][0]) > 30
    rest = Shouting()
    assert run.label(rest)["error"] == 1
    assert sum(rest.asked.values()) == 25


def test_labels_wait_for_their_translations(start: Start) -> None:
    run = start(["a", "b"])
    run.texts.split(0, run.groups[0])
    run.texts.gather(0)
    with pytest.raises(DataError, match="has no translation of 2 sentences"):
        run.assemble()


def test_shards_that_have_changed_are_recognised(start: Start, write_shards: Write) -> None:
    run = start(["a", "b"])
    run.label(Shouting())
    for path in run.files():
        path.unlink()
    write_shards([("a", {})], name="shards-one")
    with pytest.raises(DataError, match="has 1 rows, but had 2 when it was read first"):
        run.assemble()


def test_an_engine_that_loses_a_sentence_is_refused(start: Start) -> None:
    class Losing(Shouting):
        def translate(self, texts: Sequence[str]) -> list[Translation]:
            return super().translate(texts)[1:]

    run = start(["a", "b"], buckets=1)
    with pytest.raises(TranslationError, match="1 results for 2 sentences"):
        run.label(Losing())
    assert not storage.list_files(run.kept.folder)


def test_human_labels_are_the_translations_of_the_corpus(write_shards: Write, tmp_path: Path) -> None:
    shards = write_shards([("ano", {"de": "ja", "nl": " jawel\n"}), ("ne", {"de": "nein"}), ("eh", {"nl": " "})])
    folder, (url,) = str(tmp_path / "labels"), shard_urls(shards, "train")
    counts = labels.human_labels(url, folder, "nl")
    assert (counts["rows"], counts["ok"], counts["missing"], counts["error"]) == (3, 1, 2, 0)
    assert counts["reasons"] == {"no human translation": 2}
    table = read_labels(url, folder, ["train-0-0", "train-0-1", "train-0-2"])
    assert table.schema.equals(LABEL_SCHEMA)
    assert table["translation"].to_pylist() == ["jawel", None, None]
    assert labels.human_labels(url, folder, "nl") == counts


def test_a_label_file_out_of_step_is_refused(write_shards: Write, tmp_path: Path) -> None:
    folder = str(tmp_path / "labels")
    labels.human_labels(shard_urls(write_shards([("a", {}), ("b", {})], name="one"), "train")[0], folder, "nl")
    (url,) = shard_urls(write_shards([("a", {})], name="other"), "train")
    with pytest.raises(DataError, match="out of step"):
        labels.human_labels(url, folder, "nl")
