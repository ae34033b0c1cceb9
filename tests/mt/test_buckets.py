import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt import buckets
from xlst_ray.mt.buckets import EMPTY, SourceTexts, buckets_for, group_shards
from xlst_ray.mt.protocol import tidy
from xlst_ray.shards.files import shard_urls

Write = Callable[..., str]
TEXTS = st.lists(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=12), min_size=1, max_size=6
)


def prepared(shards: str, folder: str, groups: int, count: int, rows: int = 1) -> SourceTexts:
    urls = shard_urls(shards, "train")
    parts = [part for part in (urls[n::groups] for n in range(groups)) if part]
    texts = SourceTexts(folder, rows, len(parts), count)
    for group, part in enumerate(parts):
        texts.split(group, part)
    for block in range(texts.blocks):
        texts.gather(block)
    return texts


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.integers(1, 3), st.sampled_from([1, 2, 8]), st.sampled_from([1, 2**19, 2**20]))
def test_each_sentence_is_in_one_bucket_and_each_row_finds_its_own(
    write_shards: Write, tmp_path: Path, shards: list[list[str]], groups: int, count: int, rows: int
) -> None:
    folder = str(tmp_path / "texts")
    for name in ("texts", "shards"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    source = write_shards(*([(text, {}) for text in texts] for texts in shards))
    texts = prepared(source, folder, groups, count, rows)
    found = [text for bucket in range(count) for text in texts.bucket(bucket).to_pylist()]
    assert sorted(found) == sorted({tidy(text) for part in shards for text in part} - {""})
    assert texts.count(0)["distinct"] == sum(len(texts.bucket(bucket)) for bucket in texts.block(0))

    parts = [texts.group_parts(block) for block in range(texts.blocks)]
    for group in range(texts.groups):
        sentences = [text for block in parts for text in block[group].to_pylist()]
        codes, sizes = texts.rows_of(group)
        assert sizes == [len(part) for part in shards[group::groups]]
        rebuilt = ["" if code == EMPTY else sentences[code] for code in codes]
        assert rebuilt == [tidy(text) for part in shards[group::groups] for text in part]


def test_a_bucket_lies_within_its_half_of_a_coarser_set(write_shards: Write, tmp_path: Path) -> None:
    source = write_shards([(f"věta {number}", {}) for number in range(200)])
    fine, coarse = (prepared(source, str(tmp_path / f"{count}"), 1, count) for count in (8, 2))
    assert [fine.name(bucket) for bucket in (0, 5)] == ["000", "101"]
    for bucket in range(2):
        inside = [text for part in range(8) if fine.name(part).startswith(coarse.name(bucket))
                  for text in fine.bucket(part).to_pylist()]  # fmt: skip
        assert sorted(inside) == sorted(coarse.bucket(bucket).to_pylist())


def test_what_is_there_is_not_written_again(write_shards: Write, tmp_path: Path) -> None:
    source = write_shards([("a", {}), ("b", {})], [("b", {}), ("c", {})])
    prepared(source, str(tmp_path / "texts"), 2, 4)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "texts").rglob("*.*")}
    assert len(before) == 8
    gone = [path for path in before if path.name in ("0001.arrow", "0001.parquet", "b01.parquet")]
    for path in gone:
        path.unlink()
    prepared(source, str(tmp_path / "texts"), 2, 4)
    for path, (content, written) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == written) == (path not in gone)


def test_a_damaged_group_is_named_with_the_way_out(write_shards: Write, tmp_path: Path) -> None:
    source = write_shards([("a", {})])
    texts = prepared(source, str(tmp_path / "texts"), 1, 2)
    (tmp_path / "texts" / "groups" / "0000.arrow").write_bytes(b"ARROW1 and no more")
    with pytest.raises(DataError, match=r"0000\.arrow: cannot be read as Arrow") as caught:
        texts.group_parts(0)
    assert caught.value.hint == f"delete {texts.folder} and run jobs/pseudo_label.py again"


def test_the_numbers_of_parts_grow_with_the_rows_up_to_a_bound() -> None:
    assert [buckets_for(rows) for rows in (0, 10, 10**5, 10**6, 10**7, 10**8, 10**9)] == [
        16,
        16,
        16,
        64,
        1024,
        4096,
        4096,
    ]
    urls = [f"{number}" for number in range(2000)]
    groups = group_shards(urls, 10**6)
    assert [url for group in groups for url in group] == urls
    assert {len(group) for group in groups[:-1]} == {buckets.GROUP_ROWS * 2000 // 10**6}
    assert group_shards(["one"], 10**9) == [["one"]]
    texts = SourceTexts("x", 10**8, 763, 4096)
    assert texts.blocks == 512
    assert [bucket for block in range(512) for bucket in texts.block(block)] == list(range(4096))


def test_the_index_counts_as_complete(write_shards: Write, tmp_path: Path) -> None:
    texts = prepared(write_shards([("a", {})]), str(tmp_path / "texts"), 1, 2)
    assert texts.counts is None
    texts.complete({"distinct": 1, "characters": 1})
    assert texts.counts == {"distinct": 1, "characters": 1}
    assert storage.exists(f"{texts.folder}/index.json")
