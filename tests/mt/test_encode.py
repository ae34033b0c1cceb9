from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.encode import load_encoder
from xlst_ray.mt.llm_options import PromptOptions
from xlst_ray.mt.specification import SamplingOptions, Specification

if TYPE_CHECKING:
    from conftest import Trained

CHATML = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if shout %}!{% endif %}{% endif %}"
)


def specify(**prompt: object) -> Specification:
    return PromptOptions.model_validate(prompt).specify(SamplingOptions(), 2.0, 16, "cs", "nl")


def test_a_plain_prompt_is_the_tokenizers_own_reading(trained: "Trained") -> None:
    encoder = load_encoder(str(trained.folder))
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    assert encoder.encode(specify(preset="trained-lm"), "malý dům") == tokenizer("malý dům<sep>")["input_ids"]
    assert encoder.ends == {tokenizer.eos_token_id}
    assert encoder.most == 48


def test_a_chat_is_laid_out_by_the_models_template_with_one_opening_token(trained: "Trained", tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    with pytest.raises(ConfigError, match="has no chat template"):
        load_encoder(str(trained.folder)).encode(specify(), "dům")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((trained.folder / "config.json").read_bytes())
    encoder = load_encoder(str(tmp_path))
    tokens = encoder.encode(specify(chat_template_kwargs={"shout": True}), "dům")
    assert tokens.count(tokenizer.bos_token_id) == 1
    written = tokenizer.decode(tokens)
    assert written.endswith(("dům</s>[assistant]!", "dům</s> [assistant]!"))


def test_folders_without_a_tokenizer_are_named(trained: "Trained", tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((trained.folder / "config.json").read_bytes())
    with pytest.raises(DataError, match="has no tokenizer and configuration"):
        load_encoder(str(tmp_path))
