from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from xlst_ray.batches.position import Position
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.engines import open_translator
from xlst_ray.mt.lm import LMOptions, build_lm, save_lm, train_tokenizer
from xlst_ray.mt.lm_info import LMInfo, read_info
from xlst_ray.mt.lm_task import LMTask
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, Translator

if TYPE_CHECKING:
    from conftest import Trained


def engine(folder: Path, **changes: int | float) -> Translator:
    return open_translator(EngineOptions(path=str(folder)).replace(**changes), "cs", "nl")


def test_training_learns_to_translate_unseen_sentences(trained: "Trained") -> None:
    assert trained.losses[-1] < 0.25 * trained.losses[0]
    results = engine(trained.folder).translate([source for source, _ in trained.unseen])
    right = sum(result.text == target for result, (_, target) in zip(results, trained.unseen, strict=True))
    assert right >= 0.9 * len(trained.unseen)


def test_it_says_what_transformers_says_of_the_same_folder(trained: "Trained") -> None:
    """The oracle knows nothing of us: the Auto classes, the prompt of xlst_mt.json, one sentence at a time."""
    texts = ["malý vůz doma", "nový", "starý starý strom strom tam", "Žluťoučký kůň"]
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    model = AutoModelForCausalLM.from_pretrained(trained.folder)
    prompt = read_info(str(trained.folder)).prompt
    expected, counts = [], []
    for text in texts:
        inputs = tokenizer(prompt.format(source=text), return_tensors="pt")
        read = inputs["input_ids"].shape[1]
        output = model.generate(**inputs, do_sample=False, max_new_tokens=20)[0, read:]
        assert output[-1] == tokenizer.eos_token_id
        expected.append(tokenizer.decode(output, skip_special_tokens=True).strip())
        counts.append((read, len(output)))
    results = engine(trained.folder).translate(texts)
    assert [result.text for result in results] == expected
    assert [(result.input_tokens, result.output_tokens) for result in results] == counts


def test_a_translation_does_not_depend_on_its_batch(trained: "Trained") -> None:
    texts = [source for source, _ in trained.unseen[:12]] + ["dům", "malý", "nový starý malý bílý dům doma venku"]
    together = engine(trained.folder).translate(texts)
    for batch_size in (1, 4):
        assert engine(trained.folder, batch_size=batch_size).translate(texts) == together
    backwards = engine(trained.folder, batch_size=4).translate(texts[::-1])
    assert backwards[::-1] == together
    assert list(chain.from_iterable(engine(trained.folder).translate([text]) for text in texts)) == together


def test_the_length_limit_is_each_sentences_own(trained: "Trained") -> None:
    limited = engine(trained.folder, max_new_tokens_ratio=0.4, max_new_tokens_margin=1)
    short, long = "malý dům doma", "nový starý malý bílý dům doma venku"  # 3 tokens are too few for the short one's 4
    (alone,) = limited.translate([short])
    assert (alone.text, alone.status, alone.error) == (None, "error", "too long")
    assert limited.translate([short, long])[0] == alone


def test_failures_are_rows(trained: "Trained") -> None:
    limited = engine(trained.folder, max_new_tokens_ratio=0.001, max_new_tokens_margin=1)
    results = limited.translate(["malý dům doma", "malý " * 60])
    assert [result.status for result in results] == ["error", "error"]
    assert [result.error for result in results] == ["too long", "source too long"]
    assert results[0].output_tokens == 2, "what was written counts, also where it is of no use"
    assert results[1] == Translation(None, "error", "source too long", 0, 0)
    assert engine(trained.folder).translate([]) == []


def test_an_empty_output_is_an_error(tmp_path: Path) -> None:
    """By a model that has learnt to say nothing."""
    options = LMOptions(dim=16, layers=1, heads=2, ffn=16, vocabulary=300, dropout=0.0, max_length=32)
    tokenizer, info = train_tokenizer(["malý dům"], options), LMInfo("cs", "nl")
    task = LMTask(build_lm(options, tokenizer, seed=0), tokenizer, info, [("malý dům", "")])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    for batch, _ in islice(task.batches(Position()), 20):
        optimizer.zero_grad()
        task.loss(task.model, batch).loss.backward()
        optimizer.step()
    save_lm(tmp_path, task.model, tokenizer, info)
    (result,) = engine(tmp_path).translate(["malý dům"])
    assert (result.text, result.status, result.error) == (None, "error", "empty")


def test_other_languages_are_refused_at_opening(trained: "Trained") -> None:
    options = EngineOptions(path=str(trained.folder))
    with pytest.raises(ConfigError, match="translates cs to nl, not cs to et"):
        open_translator(options, "cs", "et")
    with pytest.raises(ConfigError, match="translates cs to nl, not pl to nl"):
        open_translator(options, "pl", "nl")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder of a trained-lm"):
        engine(tmp_path)
