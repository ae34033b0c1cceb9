"""Each fault is planted, and found, with nothing else found; what is sound has no fault."""

import json
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from xlst_ray import storage
from xlst_ray.audio.decode import decode_flac, encode_flac
from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import DataError
from xlst_ray.report.validation import Validation, validation_page, validation_text
from xlst_ray.shards.inspect import MEANING
from xlst_ray.shards.schema import LABEL_SCHEMA, SHARD_SCHEMA
from xlst_ray.stages.validate import validate

GERMAN = ["Der Zug fährt um acht Uhr ab.", "Wir haben heute keine Zeit mehr.", "Das Wetter wird morgen wieder schön."]
ENGLISH = ["The train leaves at eight in the evening.", "We do not have any more time.", "It will be sunny again."]
GREEK = "Το τρένο φεύγει στις οκτώ το βράδυ."
ROWS = 45

Row = dict[str, Any]


def rows_of(split: str, texts: Sequence[str] = GERMAN, speaker: str = "") -> list[Row]:
    """Sound rows: noise as long as the text takes to be spoken, the sentences all different."""
    rng = np.random.default_rng(len(split))
    rows = []
    for number in range(ROWS):
        text = f"{texts[number % len(texts)]} {split} {chr(97 + number % 26)}{chr(97 + number // 26)}"
        wave = 0.1 * rng.standard_normal(int(len(text) / 14 * 16_000)).astype(np.float32)
        rows.append(
            {
                "id": f"{split}-{number}",
                "audio": encode_flac(wave),
                "duration": len(wave) / 16_000,
                "text": text,
                "lang": "de",
                "speaker": f"{split}{speaker}-{number % 5}",
                "group": "",
                "translations": [("en", ENGLISH[number % len(ENGLISH)])],
            }
        )
    return rows


def write(folder: Path, split: str, rows: Sequence[Row], shard: int = 0) -> None:
    url = str(folder / split / f"shard-{shard:05d}.parquet")
    storage.write_table(url, pa.Table.from_pylist(list(rows), SHARD_SCHEMA))


def looked_at(folder: Path, labels: Path | None = None) -> Validation:
    return validate(str(folder), None if labels is None else str(labels), ClusterOptions(), pool=0)


def found(folder: Path, labels: Path | None = None) -> dict[str, int]:
    """Rows of the training split by fault."""
    return {fault: count for (split, fault), count in looked_at(folder, labels).faults.items() if split == "train"}


def test_sound_shards_have_no_fault(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write(tmp_path, split, rows_of(split))
    storage.write_json(str(tmp_path / "train" / "shard-00000.counts.json"), {"rejected": {"truncated": 3}})
    validation = looked_at(tmp_path)
    assert validation.faults == {}
    assert list(validation.splits) == ["train", "dev", "test"]
    train = validation.splits["train"]
    assert (train.seen.rows, dict(train.rejected)) == (ROWS, {"truncated": 3})
    assert sum(train.seen.durations) == sum(train.seen.speeds) == ROWS
    assert max(range(51), key=lambda speed: train.seen.speeds[speed]) in (13, 14)
    seconds = sum(row["duration"] for row in rows_of("train"))
    assert train.seen.seconds == pytest.approx(seconds)
    assert "no fault was found" in validation.headline


def planted(rows: list[Row], fault: str) -> dict[str, int]:
    """Plant a fault in some rows, and say what must be found."""
    if fault == "truncated audio":
        rows[3]["audio"] = rows[3]["audio"][: len(rows[3]["audio"]) // 2]
        rows[4]["audio"] = rows[4]["audio"][:30]
        return {"undecodable": 2}
    if fault == "a clip cut short when it was recorded":
        wave = decode_flac(rows[3]["audio"])[:8000]
        rows[3].update(audio=encode_flac(wave), duration=0.5)
        return {"too-fast": 1}
    if fault == "another rate":
        wave = decode_flac(rows[3]["audio"])
        rows[3]["audio"] = encode_flac(wave[::2], 8000)
        return {"wrong-rate": 1}
    if fault == "a wrong rate at the source":  # 48 kHz samples in a file that says 16 kHz: three times as slow
        for row in rows:
            wave = np.repeat(decode_flac(row["audio"]), 4)
            row.update(audio=encode_flac(wave), duration=len(wave) / 16_000)
        return {"speaking-rate": ROWS}
    if fault == "silence":
        rows[7]["audio"] = encode_flac(np.zeros(round(rows[7]["duration"] * 16_000), np.float32))
        return {"silent": 1}
    if fault == "a duration that is not true":
        rows[1]["duration"] += 0.5
        return {"wrong-duration": 1}
    if fault == "an id twice":
        rows[9]["id"] = rows[8]["id"]
        return {"duplicate-id": 1}
    if fault == "another script":
        rows[2]["text"] = GREEK
        return {"other-script": 1}
    if fault == "an empty transcript":
        rows[2]["text"] = "  "
        return {"empty-text": 1}
    rows[2]["text"] = "2041/7730-11.49/06"  # a column of something else
    return {"few-letters": 1}


@pytest.mark.parametrize(
    "fault",
    [
        "truncated audio",
        "a clip cut short when it was recorded",
        "another rate",
        "a wrong rate at the source",
        "silence",
        "a duration that is not true",
        "an id twice",
        "another script",
        "an empty transcript",
        "a column of paths",
    ],
)
def test_a_planted_fault_is_found_and_no_other(tmp_path: Path, fault: str) -> None:
    rows = rows_of("train")
    expected = planted(rows, fault)
    write(tmp_path, "train", rows)
    assert found(tmp_path) == expected


def test_the_places_are_told(tmp_path: Path) -> None:
    rows = rows_of("train")
    planted(rows, "silence")
    write(tmp_path, "train", rows)
    (place,) = looked_at(tmp_path).splits["train"].seen.examples["silent"]
    assert place == f"{tmp_path}/train/shard-00000.parquet, train-7"


def test_swapped_columns_are_another_script(tmp_path: Path) -> None:
    rows = rows_of("train")
    for row in rows:
        row.update(text=GREEK + " " + row["id"].replace("-", " "), translations=[("el", row["text"])])
    write(tmp_path, "train", rows)
    assert found(tmp_path)["other-script"] == ROWS


def test_swapped_columns_of_one_script_are_another_language(tmp_path: Path) -> None:
    rows = rows_of("train")
    for row in rows:
        text, translation = row["text"], row["translations"][0][1]
        row.update(text=f"{translation} {row['id']}", translations=[("en", text)])
    write(tmp_path, "train", rows)
    validation = looked_at(tmp_path)
    assert validation.faults == {("train", "other-language"): ROWS}
    (place,) = validation.splits["train"].seen.examples["other-language"]
    assert "look like en, not de" in place


def test_an_id_that_is_in_two_shards_is_found(tmp_path: Path) -> None:
    rows = rows_of("train")
    write(tmp_path, "train", rows[:20])
    write(tmp_path, "train", [*rows[20:], rows[4]], shard=1)
    assert found(tmp_path) == {"duplicate-id": 1}


def test_a_shard_of_another_schema_is_found_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    rows = rows_of("train")
    write(tmp_path, "train", rows[:20])
    planted(rows, "silence")
    write(tmp_path, "train", rows[:10], shard=2)
    table = pa.Table.from_pylist(rows[20:], SHARD_SCHEMA).drop_columns(["speaker"])
    storage.write_table(str(tmp_path / "train" / "shard-00001.parquet"), table)
    (tmp_path / "train" / "shard-00003.parquet").write_bytes(b"PAR1 no more")
    validation = looked_at(tmp_path)
    faults = validation.faults
    assert faults.pop(("train", "duplicate-id")) == 10
    assert faults == {("train", "schema"): ROWS - 20 + 1, ("train", "silent"): 1}
    one, other = validation.splits["train"].seen.examples["schema"]
    assert "shard-00001.parquet: no column speaker" in one
    assert "shard-00003.parquet: cannot be read as Parquet" in other


def test_labels_out_of_step_are_found(tmp_path: Path) -> None:
    rows = rows_of("train")
    write(tmp_path / "shards", "train", rows)
    labels = [{"id": row["id"], "translation": "x", "status": "ok", "error": None} for row in rows]
    url = str(tmp_path / "labels" / "train" / "shard-00000.parquet")
    storage.write_table(url, pa.Table.from_pylist(labels, LABEL_SCHEMA))
    assert found(tmp_path / "shards", tmp_path / "labels") == {}
    storage.write_table(url, pa.Table.from_pylist(labels[::-1], LABEL_SCHEMA))
    assert found(tmp_path / "shards", tmp_path / "labels") == {"labels": ROWS}
    assert found(tmp_path / "shards", tmp_path / "nowhere") == {"labels": ROWS}


def test_leakage_of_sentences_and_speakers_is_found(tmp_path: Path) -> None:
    train, test = rows_of("train"), rows_of("test")
    train[5]["text"] = train[6]["text"] = test[0]["text"].upper() + "!"
    test[1]["speaker"] = test[2]["speaker"] = train[0]["speaker"]
    write(tmp_path, "train", train)
    write(tmp_path, "test", test)
    assert looked_at(tmp_path).faults == {("train", "leakage"): 2, ("test", "shared-speakers"): 2}


def test_the_text_and_the_page_tell_the_same(tmp_path: Path) -> None:
    rows = rows_of("train")
    for fault in ("silence", "another rate", "an id twice"):
        planted(rows, fault)
    rows[2]["text"] = f"<b>{GREEK}</b>"
    write(tmp_path, "train", rows)
    storage.write_json(str(tmp_path / "train" / "shard-00000.counts.json"), {"rejected": {"too-short": 12}})
    validation = looked_at(tmp_path)
    text, page = validation_text(validation), validation_page(validation)
    for fault in ("silent", "wrong-rate", "duplicate-id", "other-script"):
        assert f"{fault}: 1 rows; {MEANING[fault]}" in text  # type: ignore[index]
        assert f">{fault}<" in page
    assert "12 too-short" in text
    bars = [line.split()[-1] for line in text.splitlines() if "#" in line]
    assert sum(map(int, bars)) == 2 * ROWS, "two histograms, each utterance once"
    assert len(bars) <= 24, "few enough lines to see a shape"
    assert ">too-short<" in page
    assert "<b>Το" not in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    HTMLParser().feed(page)


def job(*arguments: str) -> int:
    sys.path.insert(0, str(Path(__file__).parents[2] / "jobs"))
    try:
        from validate import ValidateJob, work  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return run_job(ValidateJob, work, "", arguments)


def test_the_job_fails_on_faults_that_are_not_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("train")
    planted(rows, "silence")
    write(tmp_path, "train", rows)
    page = tmp_path / "page.html"
    assert job(f"shards={tmp_path}", f"html={page}", "cluster.workers=0") == 2
    captured = capsys.readouterr()
    assert "silent: 1 rows" in captured.out
    assert "faults found: silent" in captured.err
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert job(f"shards={tmp_path}", "allow=[silent]", "cluster.workers=0") == 0


def test_no_shards_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no shards"):
        looked_at(tmp_path)


def test_an_inspection_crosses_processes_as_json(tmp_path: Path) -> None:
    rows = rows_of("train")
    planted(rows, "truncated audio")
    write(tmp_path, "train", rows)
    seen = looked_at(tmp_path).splits["train"].seen
    again = type(seen).from_json(json.loads(json.dumps(seen.to_json())))
    assert again == seen
