"""A corpus of which too much cannot be used stops, and says what to do."""

import json
from pathlib import Path
from typing import get_args

import pytest

from xlst_ray.audio.decode import AudioReason
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.corpora.corpus import IndexReason
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.corpora.rejections import NEXT_STEP, Reason, Rejections
from xlst_ray.errors import DataError
from xlst_ray.stages.prepare import PrepareOptions, describe_prepare, prepare


def write(path: Path, *reasons: str) -> str:
    rows = [
        {"id": f"u{n}", "where": f"train.tsv, row {n}", "audio": f"{n}.mp3", "reason": reason, "detail": f"detail {n}"}
        for n, reason in enumerate(reasons)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_reason_has_a_next_step() -> None:
    reasons = {name for part in get_args(Reason) for name in get_args(part)}
    assert reasons >= {*get_args(IndexReason), *get_args(AudioReason)}
    assert reasons == NEXT_STEP.keys()


def test_up_to_the_share_nothing_is_said(tmp_path: Path) -> None:
    rejections = Rejections(rows=20, share=0.1, where="corpus")
    rejections.add({"missing": 2}, write(tmp_path / "a", "missing", "missing"))
    with pytest.raises(DataError, match="3 of 20 rows cannot be used"):
        rejections.add({"truncated": 1}, write(tmp_path / "b", "truncated"))


def test_the_three_commonest_reasons_have_an_example_and_a_next_step(tmp_path: Path) -> None:
    rejections = Rejections(rows=10, share=0.5, where="/data/cv")
    rejections.add({"missing": 2, "too-long": 1}, write(tmp_path / "a", "too-long", "missing", "missing"))
    with pytest.raises(DataError) as caught:
        rejections.add({"empty-file": 3, "truncated": 2}, write(tmp_path / "b", "truncated", "empty-file"))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("/data/cv: 8 of 10 rows cannot be used")
    assert "50%" in lines[0]
    assert lines[1].startswith("  -> 3 empty-file, such as train.tsv, row 1 (1.mp3): detail 1; fetch these files again")
    assert [line.split(",")[0] for line in lines[2:4]] == ["  -> 2 missing", "  -> 2 truncated"]
    assert "max_rejected" in lines[4]
    assert len(lines) == 5


def options(folder: Path, **changes: object) -> PrepareOptions:
    return PrepareOptions(corpus=CorpusOptions(reader="manifest", path=str(folder), lang="nl"), **changes)


def test_an_index_that_is_bad_enough_stops_before_anything_is_decoded(tmp_path: Path) -> None:
    good, bad = {"audio": "a.wav", "text": "x"}, {"audio": "a.wav"}
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good, bad)))
    with pytest.raises(DataError, match=r"2 of 4 rows.*\n.*train.jsonl, row 2: has no field text"):
        prepare(options(tmp_path, max_rejected=0.4), str(tmp_path / "out"), ClusterOptions())
    assert not (tmp_path / "out" / "train").exists()


def test_the_share_changes_no_result_and_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"audio": "a.wav", "text": "x"}))
    strict, lax = (describe_prepare(options(tmp_path, max_rejected=share)) for share in (0.0, 1.0))
    assert strict.fingerprint == lax.fingerprint
