"""A test set: which of its utterances count, and what is told of the others."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tones
import torch

from xlst_ray import storage
from xlst_ray.batches.index import Source
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.errors import DataError
from xlst_ray.model.files import save_model
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.score.errors import rate, word_errors
from xlst_ray.shards.files import label_url, shard_urls
from xlst_ray.shards.schema import LABEL_SCHEMA
from xlst_ray.stages.evaluate import EvaluateOptions, evaluate
from xlst_ray.text.normalise import TextOptions
from xlst_ray.text.vocabulary import VocabularyOptions, train_vocabulary

HERE = ClusterOptions(decoders=0)
OPTIONS = EvaluateOptions(beam={"beam": 2, "max_tokens_ratio": 0, "max_tokens": 4})


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    vocabulary = train_vocabulary(["".join(tones.LETTERS), "a b"], VocabularyOptions(kind="char"), folder)
    torch.manual_seed(3)
    save_model(folder, S2TModel(ModelOptions(size="debug").architecture(), len(vocabulary)))
    (folder / "text.json").write_text(json.dumps({"lang": "nl", "text": TextOptions().resolved()}))
    return str(folder)


def write_test(folder: Path, *texts: str) -> str:
    """A test split of one shard with these transcripts, whatever is said."""
    rows = [tones.row(f"{number}", text, tones.wave("abcd", seed=number)) for number, text in enumerate(texts)]
    storage.write_table(f"{folder}/test/shard-00000.parquet", tones.table(rows))
    return str(folder)


def test_what_is_heard_where_nothing_is_said_counts_as_insertions(model: str, tmp_path: Path) -> None:
    shards, out = write_test(tmp_path / "shards", "ab", "...", "cd"), tmp_path / "out"
    scores = evaluate("test", OPTIONS, model, Source(shards, "test"), str(out), HERE)
    table = pq.read_table(out / "hypotheses.parquet")
    references, hypotheses = table["reference"].to_pylist(), table["hypothesis"].to_pylist()
    assert references == ["ab", "", "cd"]
    assert hypotheses[1]
    assert scores["utterances"] == 3
    assert scores["wer"] == rate(word_errors(references, hypotheses, "nl"))
    assert scores["left_out"] == {}


def test_sentences_without_a_label_are_told_and_counted(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, labels, out = (
        write_test(tmp_path / "shards", "a", "b", "c", "d"),
        str(tmp_path / "labels"),
        tmp_path / "out",
    )
    rows = [("ef", "ok"), (None, "error"), ("?", "ok"), (None, "missing")]
    made = [
        {"id": str(number), "translation": text, "status": status, "error": None if status == "ok" else status}
        for number, (text, status) in enumerate(rows)
    ]
    (url,) = shard_urls(shards, "test")
    storage.write_table(label_url(url, labels), pa.Table.from_pylist(made, schema=LABEL_SCHEMA))
    evaluate("test", OPTIONS, model, Source(shards, "test", labels), str(out), HERE)
    scores = storage.read_json(f"{out}/scores.json")
    assert scores["utterances"] == 2
    assert scores["left_out"] == {"no label": 2}
    assert "test: 2 utterances are scored; left out: 2 no label" in capsys.readouterr().out


def test_a_test_set_without_any_text_is_refused_before_it_is_recognised(model: str, tmp_path: Path) -> None:
    shards = write_test(tmp_path / "shards", "...", "!")
    with pytest.raises(DataError, match="no reference has any text") as raised:
        evaluate("test", OPTIONS, model, Source(shards, "test"), str(tmp_path / "out"), HERE)
    assert raised.value.where == shards


@pytest.mark.parametrize("damaged", ["", "{", "[]"])
def test_a_damaged_description_of_the_model_is_said(model: str, tmp_path: Path, damaged: str) -> None:
    (Path(model) / "model.json").write_text(damaged)
    shards = write_test(tmp_path / "shards", "ab")
    with pytest.raises(DataError, match="cannot be read as a model") as raised:
        evaluate("test", OPTIONS, model, Source(shards, "test"), str(tmp_path / "out"), HERE)
    assert raised.value.where == model
