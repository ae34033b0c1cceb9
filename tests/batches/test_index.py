from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tones
import torch

from xlst_ray import storage
from xlst_ray.audio.decode import decode_flac
from xlst_ray.audio.fbank import Fbank
from xlst_ray.batches.index import Index, Source, TargetText, build_index, join
from xlst_ray.batches.options import BatchOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.files import label_url, read_shard, shard_urls
from xlst_ray.shards.schema import LABEL_SCHEMA

TEXT = TargetText(lambda sentence: sentence.strip().lower(), tones.encode)
LIMITS = BatchOptions(min_utterance_frames=20, max_utterance_frames=100, max_utterance_tokens=6)


def write_labels(shards: str, labels: Path, split: str, *rows: tuple[str | None, str]) -> None:
    """The label file of a split's only shard: (translation, status) of each row."""
    (url,) = shard_urls(shards, split)
    table = pa.Table.from_pylist(
        [
            {"id": name, "translation": text, "status": status, "error": None if status == "ok" else status}
            for name, (text, status) in zip(read_shard(url, ["id"])["id"].to_pylist(), rows, strict=True)
        ],
        schema=LABEL_SCHEMA,
    )
    storage.write_table(label_url(url, str(labels)), table)


def assert_same(one: Index, other: Index) -> None:
    assert (one.urls, one.counts, one.sources) == (other.urls, other.counts, other.sources)
    assert one.ids.equals(other.ids)
    for name in ("shard", "row", "frames", "tokens", "ends"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


def tokens_of(index: Index) -> list[list[int]]:
    return [index.tokens_of(row).tolist() for row in range(len(index))]


def test_it_says_where_each_utterance_lies_and_how_long_it_is(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", ["abc", "De"], ["fgha"])
    index = build_index(Source(shards, "train"), TEXT, BatchOptions())
    assert index.urls == tuple(shard_urls(shards, "train"))
    assert index.ids.to_pylist() == ["train-0-0", "train-0-1", "train-1-0"]
    assert (index.shard.tolist(), index.row.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert tokens_of(index) == [[4, 5, 6], [7, 8], [9, 10, 11, 4]]
    assert index.target_lengths().tolist() == [4, 3, 5]
    assert index.target_lengths(np.array([2, 0])).tolist() == [5, 4]
    assert index.ids_of(np.array([2, 0])) == ["train-1-0", "train-0-0"]
    fbank = Fbank()
    for frames, url, row in zip(index.frames, [index.urls[i] for i in index.shard], index.row, strict=True):
        wave = decode_flac(read_shard(url, ["audio"])["audio"][int(row)].as_py())
        _, counted = fbank(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        assert frames == int(counted)


def test_seconds_are_summed_before_they_are_rounded(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", ["ab"] * 10)
    assert build_index(Source(shards, "train"), TEXT, BatchOptions()).counts == {"kept": 10, "seconds": 3}


def test_what_is_left_out_of_training_is_counted_by_reason(tmp_path: Path) -> None:
    texts = ["abcd", "a", "ab", "abcdefgh", " ", "hgfe", "HGFE", "abcde"]  # 0.16 s a letter
    shards = tones.write_shards(tmp_path, "train", texts)
    text = TargetText(TEXT.normalise, TEXT.encode, leaked=lambda sentence: sentence.lower() == "hgfe")
    limits = LIMITS.replace(max_utterance_tokens=4)
    index = build_index(Source(shards, "train"), text, limits)
    assert index.ids.to_pylist() == ["train-0-0", "train-0-2"]
    assert index.row.tolist() == [0, 2], "rows of the shard, not of what is kept"
    assert index.counts == {
        "kept": 2,
        "seconds": 1,
        "too short": 1,
        "too long": 1,
        "empty text": 1,
        "held-out sentence": 2,
        "too many tokens": 1,
    }


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(("references", "empty"), [(False, []), (True, [3])])
def test_a_held_out_set_keeps_all_that_has_a_target_and_as_references_all(
    tmp_path: Path, split: str, references: bool, empty: list[int]
) -> None:
    shards = tones.write_shards(tmp_path, split, ["abcd", "a", "abcdefgh", " ", "hgfe"])
    text = TargetText(TEXT.normalise, TEXT.encode, leaked=lambda sentence: True)
    index = build_index(Source(shards, split), text, LIMITS, references=references)
    assert index.row.tolist() == [0, 1, 2, *empty, 4]
    left_out = {} if references else {"empty text": 1}
    assert index.counts == {"kept": 4 + len(empty), **left_out, "seconds": 3}


@pytest.mark.parametrize("split", ["train", "dev"])
def test_labels_are_the_targets_where_there_are_any(tmp_path: Path, split: str) -> None:
    shards = tones.write_shards(tmp_path, split, ["abcd", "abcd", "abcd", "abcd"])
    labels = tmp_path / "labels"
    write_labels(shards, labels, split, ("Ef", "ok"), (None, "error"), (None, "missing"), ("gh", "ok"))
    index = build_index(Source(shards, split, str(labels)), TEXT, BatchOptions())
    assert index.row.tolist() == [0, 3]
    assert tokens_of(index) == [[8, 9], [10, 11]]
    assert index.counts == {"kept": 2, "no label": 2, "seconds": 1}


def test_a_label_that_is_a_held_out_sentence_is_dropped(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", ["abcd", "abcd"])
    write_labels(shards, tmp_path / "labels", "train", ("Ef", "ok"), ("gh", "ok"))
    text = TargetText(TEXT.normalise, TEXT.encode, leaked=lambda sentence: sentence == "Ef")
    index = build_index(Source(shards, "train", str(tmp_path / "labels")), text, BatchOptions())
    assert index.row.tolist() == [1]


def test_a_share_is_drawn_by_id_and_a_smaller_one_is_part_of_a_larger(tmp_path: Path) -> None:
    texts = [["abc"] * 40, ["abc"] * 40]
    shards = tones.write_shards(tmp_path, "train", *texts)
    indices = {s: build_index(Source(shards, "train", share=s), TEXT, LIMITS) for s in (0.25, 0.5, 1.0)}
    quarter, half, whole = (set(index.ids.to_pylist()) for index in indices.values())
    assert quarter < half < whole
    assert len(whole) == 80
    assert abs(len(half) - 40) < 23, "5 standard deviations"
    assert indices[0.5].counts["not drawn"] == 80 - len(half)
    dev = tones.write_shards(tmp_path / "other", "dev", ["abc"] * 4)
    assert len(build_index(Source(dev, "dev", share=0.01), TEXT, LIMITS)) == 4, "what is scored stays whole"


def test_labels_of_other_shards_are_refused(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path / "one", "train", ["abcd", "efgh"])
    other = tones.write_shards(tmp_path / "other", "train", ["abcd"])
    write_labels(other, tmp_path / "labels", "train", ("ef", "ok"))
    with pytest.raises(DataError, match=r"out of step with .*one/train/shard-00000"):
        build_index(Source(shards, "train", str(tmp_path / "labels")), TEXT, BatchOptions())
    with pytest.raises(DataError, match="no such file"):
        build_index(Source(shards, "train", str(tmp_path / "nowhere")), TEXT, BatchOptions())


def test_nothing_that_can_be_used_is_an_error_that_counts(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", ["a", "b"])
    with pytest.raises(DataError, match="no utterance of the split train can be used: 2 too short") as raised:
        build_index(Source(shards, "train"), TEXT, LIMITS)
    assert raised.value.hint == "lower batch.min_utterance_frames"


def test_it_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", ["abcd", "a", "ab"], ["ef"])
    index = build_index(Source(shards, "train"), TEXT, LIMITS)
    index.save(str(tmp_path / "index.parquet"))
    assert_same(index, Index.load(str(tmp_path / "index.parquet")))


def test_several_sources_are_one_after_the_other(tmp_path: Path) -> None:
    one = tones.write_shards(tmp_path / "one", "train", ["abc", "a"], ["ef"])
    two = tones.write_shards(tmp_path / "two", "train", ["gh", "cd"])
    parts = [
        build_index(Source(one, "train"), TEXT, LIMITS),
        build_index(Source(two, "train", None, 3.0), TEXT, LIMITS),
    ]
    both = join(parts)
    assert both.urls == (*shard_urls(one, "train"), *shard_urls(two, "train"))
    assert both.ids.to_pylist() == ["train-0-0", "train-1-0", "train-0-0", "train-0-1"]
    assert (both.shard.tolist(), both.row.tolist()) == ([0, 1, 2, 2], [0, 0, 0, 1])
    assert tokens_of(both) == [tokens for part in parts for tokens in tokens_of(part)]
    assert both.counts == {"kept": 4, "seconds": 1 + 1, "too short": 1}
    facts = both.facts
    assert facts.starts.tolist() == [0, 1, 2, 4]
    assert facts.source.tolist() == [0, 0, 1]
    assert facts.weights == (1.0, 3.0)
    assert facts.frames.tolist() == [both.frames[0], both.frames[1], both.frames[2] + both.frames[3]]
    both.save(str(tmp_path / "index.parquet"))
    assert_same(both, Index.load(str(tmp_path / "index.parquet")))
    assert_same(join([both]), both)
