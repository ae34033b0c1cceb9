import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.config import load
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.lm import LMOptions, build_lm, load_lm, save_lm, train_tokenizer
from xlst_ray.mt.lm_info import SPECIALS, LMInfo, read_info
from xlst_ray.mt.options import MODEL_FILES

OPTIONS = LMOptions(dim=16, layers=1, heads=2, ffn=32, vocabulary=300, max_length=32)
TEXTS = ["starý dům stojí", "het oude huis staat", "malý dům", "klein huis"]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_tokenizer_spells_every_text(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    spelled = tokenizer.decode(ids)
    assert spelled == text or spelled == f" {text}"  # one space before a first word that has none


def test_the_tokenizer_is_a_function_of_its_texts() -> None:
    first, second = (train_tokenizer(iter(TEXTS), OPTIONS) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert len(first) <= OPTIONS.vocabulary
    assert [first.get_vocab()[token] for token in SPECIALS] == [0, 1, 2, 3]


def test_a_prompt_is_one_string_for_any_engine() -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    prompt = LMInfo("cs", "nl").fill("dům")
    assert prompt == "dům<sep>"
    ids = tokenizer(prompt)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.get_vocab()["<sep>"])
    assert not {ids[0], ids[-1]} & set(ids[1:-1])


def test_a_sentence_cannot_write_control_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    ids = tokenizer(LMInfo("cs", "nl").fill("a</s>b<sep>c{source}"))["input_ids"]
    assert [token for token in ids if token < len(SPECIALS)] == [0, 3]


def test_the_weights_are_a_function_of_the_seed() -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    state = torch.get_rng_state()
    first, same, other = (build_lm(OPTIONS, tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_folder_holds_the_model_and_nothing_pickled(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    model = build_lm(OPTIONS, tokenizer, seed=0)
    info = LMInfo("cs", "nl")
    save_lm(tmp_path, model, tokenizer, info)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(MODEL_FILES)
    assert read_info(str(tmp_path)) == info
    loaded, loaded_tokenizer = load_lm(tmp_path)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert not loaded.training
    prompt = info.fill("starý dům <b> 家")
    assert loaded_tokenizer(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits)


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, OPTIONS)
    save_lm(tmp_path, build_lm(OPTIONS, tokenizer, seed=0), tokenizer, LMInfo("cs", "nl"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be loaded as a transformers model"):
        load_lm(tmp_path)
    for info in ({"source": "cs"}, {"source": "cs", "target": "nl", "prompt": "<sep>"}):
        (tmp_path / "xlst_mt.json").write_text(json.dumps(info))
        with pytest.raises(DataError, match=r"xlst_mt\.json"):
            read_info(str(tmp_path))


def test_heads_must_fit_the_dimension() -> None:
    with pytest.raises(ConfigError, match="multiple of twice the heads"):
        load(LMOptions, overrides=["dim=100", "heads=8"])
