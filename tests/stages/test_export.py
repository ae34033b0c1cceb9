"""An exported model in transformers' own pipeline: the same features, the same words."""

import json
from pathlib import Path

import numpy as np
import pytest
import tones
import torch

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.audio.fbank import Fbank, utterance_cmvn
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model.beam import BeamOptions, beam_search, recognise
from xlst_ray.model.files import load_model, save_model
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import MAX_TOKENS
from xlst_ray.stages.export import export
from xlst_ray.text.vocabulary import Vocabulary, VocabularyOptions, train_vocabulary

TEXTS = ["de kat zit in de keuken", "één kat en twee katten", "waar is de keuken dan", "zo'n auto's in de stad"]


def talkative(vocabulary: Vocabulary) -> S2TModel:
    """A model whose decoder is drawn wide, so that it writes more than one token over and over."""
    torch.manual_seed(1)
    model = S2TModel(ModelOptions(size="debug").architecture(), len(vocabulary)).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(0, 0.5)
        model.decoder.embed_tokens.weight.normal_(0, 0.1)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[S2TModel, Vocabulary, Path]:
    folder = tmp_path_factory.mktemp("model")
    vocabulary = train_vocabulary(TEXTS, VocabularyOptions(size=60), folder)
    model = talkative(vocabulary)
    save_model(folder, model)
    export(str(folder), str(folder / "out"))
    return model, vocabulary, folder / "out"


def features(wave: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    found, frames = Fbank()(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    return utterance_cmvn(found, frames), frames


def test_its_feature_extractor_has_our_features(exported: tuple[S2TModel, Vocabulary, Path]) -> None:
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(exported[2])
    for seed, text in enumerate(["abc", "hgfedcba", "a a"]):
        wave = tones.wave(text, seed)
        theirs = extractor(wave, sampling_rate=16_000, return_tensors="pt")["input_features"]
        torch.testing.assert_close(features(wave)[0], theirs, atol=1e-3, rtol=0)


def test_its_pipeline_writes_what_we_write(exported: tuple[S2TModel, Vocabulary, Path]) -> None:
    from transformers import pipeline

    model, vocabulary, folder = exported
    recognise = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    options = BeamOptions(
        max_tokens_ratio=0, max_tokens=MAX_TOKENS - 1, ctc_weight=0.0
    )  # `max_length` counts what starts the decoder
    written = set()
    for seed, text in enumerate(["abc", "hgfedcba", "bad", "cafe"]):
        wave = tones.wave(text, seed)
        (found,) = beam_search(model, *features(wave), options)
        text = recognise({"raw": wave, "sampling_rate": 16_000})["text"]
        assert text == vocabulary.decode(found[0].tokens)
        written.add(text)
    assert len(written) > 1, "it does not say the same whatever it hears"


def test_a_vocabulary_of_another_model_is_refused(exported: tuple[S2TModel, Vocabulary, Path], tmp_path: Path) -> None:
    save_model(tmp_path, exported[0])
    other = train_vocabulary(["ab"], VocabularyOptions(kind="char"), tmp_path)
    message = f"{len(other)} pieces where the model beside it has {len(exported[1])}"
    assert len(other) != len(exported[1])
    with pytest.raises(DataError, match=message) as raised:
        export(str(tmp_path), str(tmp_path / "out"))
    assert raised.value.where == f"{tmp_path}/vocabulary.model"
    assert not (tmp_path / "out").exists()


def test_its_configuration_is_what_transformers_would_write(exported: tuple[S2TModel, Vocabulary, Path]) -> None:
    from transformers import Speech2TextConfig

    ours = json.loads((exported[2] / "config.json").read_text())
    theirs = Speech2TextConfig.from_pretrained(exported[2]).to_dict()
    assert {name: theirs[name] for name in ours} == ours


def test_a_model_of_several_languages_is_exported_to_write_one(
    tmp_path: Path, exported: tuple[S2TModel, Vocabulary, Path]
) -> None:
    from transformers import pipeline

    vocabulary = train_vocabulary(TEXTS, VocabularyOptions(size=60, tags=True), tmp_path, ["nl", "fi"])
    model = talkative(vocabulary)
    with torch.no_grad():
        model.decoder.embed_tokens.weight[[*vocabulary.tags.values()]] *= 3
    save_model(tmp_path, model)
    (tmp_path / "text.json").write_text(json.dumps({"lang": "nl", "text": {}}))
    options = BeamOptions(max_tokens_ratio=0, max_tokens=MAX_TOKENS - 1, ctc_weight=0.0)
    waves, written = [tones.wave(text, 0) for text in ("abc", "hgfedcba")], {}
    for lang in ("fi", None):
        export(str(tmp_path), str(tmp_path / f"out-{lang}"), lang)
        theirs = pipeline("automatic-speech-recognition", model=str(tmp_path / f"out-{lang}"), device="cpu")
        start = torch.tensor([vocabulary.tags[lang or "nl"]])
        written[lang] = []
        for wave in waves:
            ours = recognise(model, *features(wave), options, start)[0].hypotheses[0].tokens
            assert theirs({"raw": wave, "sampling_rate": 16_000})["text"] == vocabulary.decode(ours)
            written[lang].append(ours)
    assert written["fi"] != written[None]
    with pytest.raises(ConfigError, match="does not write sv"):
        export(str(tmp_path), str(tmp_path / "out-sv"), "sv")
    with pytest.raises(DataError, match="decoder_start_token_id"):
        load_model(tmp_path / "out-fi")
