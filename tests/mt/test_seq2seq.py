"""Encoder-decoder models in the layout of NLLB-200, MADLAD-400 and OPUS-MT, made here, against transformers alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.engines import open_translator, refuse_unable
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, Translator

PAIRS = [
    ("the old cat sleeps", "vanha kissa nukkuu"),
    ("the cat", "kissa"),
    ("a small house stands here", "pieni talo on tässä"),
    ("old house", "vanha talo"),
    ("the small cat sleeps in the house", "pieni kissa nukkuu talossa"),
    ("here", "tässä"),
]
TEXTS = [*(source for source, _ in PAIRS), "a cat in the old house", "small"]
SMALL = {"d_model": 32, "dropout": 0.0}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
          "encoder_attention_heads": 2, "decoder_attention_heads": 2, "attention_dropout": 0.0,
          "activation_dropout": 0.0}  # fmt: skip


def sentences() -> list[str]:
    return [side for pair in PAIRS for side in pair] * 4


def pieces(folder: Path, name: str, **options: Any) -> sentencepiece.SentencePieceProcessor:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences()), model_prefix=str(folder / name), vocab_size=70, hard_vocab_limit=False,
        minloglevel=2, **options,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.model"))


def train(model: Any, tokenizer: Any, encode: Callable[[str, str], tuple[list[int], list[int]]]) -> None:
    """A few steps: enough that translations differ and come to an end."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        for source, target in PAIRS:
            inputs, labels = encode(source, target)
            loss = model(input_ids=torch.tensor([inputs]), labels=torch.tensor([labels])).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():  # as OPUS-MT's is, and what CTranslate2 begins its translations with
            if type(model).__name__.startswith("Marian"):
                model.model.shared.weight[model.config.pad_token_id] = 0.0
    model.eval()
    assert loss < 0.5, "it has not learnt to end"


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nllb")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(sentences(), trainers.BpeTrainer(vocab_size=120, special_tokens=specials))
    made = json.loads(bpe.to_str())["model"]
    tokenizer = NllbTokenizer(vocab=made["vocab"], merges=[tuple(merge) for merge in made["merges"]])
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer), max_position_embeddings=64, decoder_start_token_id=2, **SMALL, **LAYERS
    )
    model = M2M100ForConditionalGeneration(config)
    tokenizer.src_lang = "eng_Latn"
    finnish = tokenizer.convert_tokens_to_ids("fin_Latn")

    def encode(source: str, target: str) -> tuple[list[int], list[int]]:
        written = tokenizer(target, add_special_tokens=False)["input_ids"]
        return tokenizer(source)["input_ids"], [finnish, *written, tokenizer.eos_token_id]

    train(model, tokenizer, encode)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_opus(folder: Path, prefix: str, source: str, target: str) -> Path:
    for side in ("source", "target"):
        processor = pieces(folder, side, user_defined_symbols=[prefix.strip()] if prefix else [])
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    vocabulary = {"</s>": 0, "<unk>": 1}
    for number in range(processor.get_piece_size()):
        vocabulary.setdefault(processor.id_to_piece(number), len(vocabulary))
    vocabulary["<pad>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"),
        source_lang=source, target_lang=target,
    )  # fmt: skip
    torch.manual_seed(0)
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(vocabulary), max_position_embeddings=64, pad_token_id=pad, eos_token_id=0, forced_eos_token_id=0,
        decoder_start_token_id=pad, scale_embedding=True, **SMALL, **LAYERS,
    )  # fmt: skip
    model = MarianMTModel(config)

    def encode(source: str, target: str) -> tuple[list[int], list[int]]:
        return tokenizer(prefix + source)["input_ids"], tokenizer(text_target=target)["input_ids"]

    train(model, tokenizer, encode)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def opus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_opus(tmp_path_factory.mktemp("opus"), "", "en", "fi")


@pytest.fixture(scope="module")
def opus_of_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_opus(tmp_path_factory.mktemp("opus-many"), ">>fin<< ", "eng", "fiu")


@pytest.fixture(scope="module")
def madlad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("madlad")
    processor = pieces(
        folder, "spm", model_type="unigram", user_defined_symbols=["<2fi>", "<2et>", "<2en>"],
        pad_id=1, eos_id=2, unk_id=0, bos_id=-1,
    )  # fmt: skip
    scored = [(processor.id_to_piece(n), processor.get_score(n)) for n in range(processor.get_piece_size())]
    tokenizer = T5Tokenizer(vocab=scored, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", extra_ids=0,
                            additional_special_tokens=["<2fi>", "<2et>", "<2en>"])  # fmt: skip
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)

    def encode(source: str, target: str) -> tuple[list[int], list[int]]:
        return tokenizer(f"<2fi> {source}")["input_ids"], tokenizer(target)["input_ids"]

    train(model, tokenizer, encode)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def oracle(folder: Path, prefix: str, forced: str | None, beams: int) -> list[str | None]:
    """By the models' documented use, one sentence at a time; none: it did not end within the limit."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    if forced is not None:
        tokenizer.src_lang = "eng_Latn"
    arguments = {} if forced is None else {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(forced)}
    found: list[str | None] = []
    for text in TEXTS:
        inputs = tokenizer(prefix + text, return_tensors="pt")
        limit = 2 * inputs["input_ids"].shape[1] + 16 + len(arguments)
        written = model.generate(**inputs, **arguments, num_beams=beams, do_sample=False, max_new_tokens=limit)
        ended = written[0, -1] == tokenizer.eos_token_id
        found.append(tokenizer.decode(written[0], skip_special_tokens=True).strip() if ended else None)
    assert sum(text is not None for text in found) >= len(PAIRS), "translations that do not end compare nothing"
    return found


def options(folder: Path, name: str = "transformers", **changes: Any) -> EngineOptions:
    return EngineOptions.model_validate({"engine": name, "path": str(folder), **changes})


def engine(folder: Path, name: str = "transformers", target: str = "fi", **changes: Any) -> Translator:
    return open_translator(options(folder, name, **changes), "en", target)


KINDS = pytest.mark.parametrize(
    ("kind", "prefix", "forced"),
    [
        ("nllb", "", "fin_Latn"),
        ("opus", "", None),
        ("opus_of_many", ">>fin<< ", None),
        ("madlad", "<2fi> ", None),
    ],
)


@KINDS
@pytest.mark.parametrize("beams", [1, 3])
def test_translations_are_those_of_transformers_alone(
    request: pytest.FixtureRequest, kind: str, prefix: str, forced: str | None, beams: int
) -> None:
    folder = request.getfixturevalue(kind)
    expected = oracle(folder, prefix, forced, beams)
    assert len(set(expected)) > 3, "else it compares nothing"
    results = engine(folder, beams=beams, batch_size=3).translate(TEXTS)
    assert [result.text for result in results] == expected
    assert all(result.input_tokens > 0 and result.output_tokens > 0 for result in results)


@KINDS
def test_ctranslate2_agrees_in_greedy_search(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, prefix: str, forced: str | None
) -> None:
    converters = pytest.importorskip("ctranslate2").converters
    folder = request.getfixturevalue(kind)
    copied = [
        path.name for path in folder.iterdir() if path.name.endswith((".spm", ".json")) and path.name != "config.json"
    ]
    converters.TransformersConverter(str(folder), copy_files=copied).convert(str(tmp_path / "ct2"))
    expected = engine(folder).translate(TEXTS)
    assert engine(tmp_path / "ct2", "ctranslate2", batch_size=3).translate(TEXTS) == expected


def test_limits_are_each_sentences_own(nllb: Path) -> None:
    limited = engine(nllb, max_new_tokens_ratio=0.01, max_new_tokens_margin=2)
    results = limited.translate(TEXTS)
    whole = engine(nllb).translate(TEXTS)
    for cut, result in zip(results, whole, strict=True):  # a limit of 3 tokens, the end included
        assert cut == result if result.output_tokens < 3 else cut.error == "too long"
    assert engine(nllb).translate(["cat " * 600])[0] == Translation(None, "error", "source too long")
    assert engine(nllb).translate([]) == []


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("nllb", "hsb", r"does not speak hsb(.|\n)*it speaks .*others"),
        ("madlad", "sv", r"does not speak sv(.|\n)*it speaks en, et, fi"),
        ("opus_of_many", "et", r"does not speak et(.|\n)*it speaks fin"),
        ("opus", "et", "translates en to fi, not en to et"),
    ],
)
def test_languages_that_a_model_lacks_are_refused_without_its_weights_too(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, target: str, message: str
) -> None:
    folder = request.getfixturevalue(kind)
    with pytest.raises(ConfigError, match=message):
        engine(folder, target=target)
    light = tmp_path / "light"
    shutil.copytree(folder, light, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ConfigError, match=message):
        refuse_unable(options(light), "en", target)
    refuse_unable(options(light), "en", "fi")


def test_other_folders_are_refused(tmp_path: Path, nllb: Path) -> None:
    with pytest.raises(DataError, match="is no folder of a transformers model"):
        engine(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="has no tokenizer"):
        engine(tmp_path)
    for path in nllb.iterdir():
        if not path.name.endswith(".safetensors"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="cannot be loaded as an encoder-decoder model"):
        engine(tmp_path)
