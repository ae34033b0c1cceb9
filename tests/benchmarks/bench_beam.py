"""Beam search of a model of size s: ours, and transformers' `generate` on the exported weights."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Row, compare

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.model.beam import BeamOptions, beam_search
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.text.ids import BOS, PAD

UTTERANCES, SECONDS, TOKENS, VOCABULARY, BEAM = 8, 8, 40, 10_000, 5
TOLERANCE = 1e-3
Found = list[tuple[list[int], float]]


def bench() -> list[Row]:
    from transformers import Speech2TextForConditionalGeneration

    torch.manual_seed(0)
    model = S2TModel(ModelOptions(size="s", ctc=False).architecture(), VOCABULARY).eval()
    with torch.no_grad():
        model.decoder.embed_tokens.weight.normal_(0, 0.2)  # so that hypotheses have scores of their own
    with tempfile.TemporaryDirectory() as folder:
        save_speech2text(Path(folder), model)
        theirs = Speech2TextForConditionalGeneration.from_pretrained(folder).eval()
    features = torch.randn(UTTERANCES, 100 * SECONDS, 80)
    lengths = torch.full((UTTERANCES,), features.shape[1])
    encoders = compare(
        f"its encoder alone, states the same to {TOLERANCE:g}",
        {
            "ours": _inference(lambda: model.encode(features, lengths).states),
            "transformers": _inference(lambda: theirs.model.encoder(features).last_hidden_state),
        },
        amount=float(UTTERANCES * SECONDS),
        unit="audio-s",
        equal=lambda one, other: torch.allclose(one, other, atol=TOLERANCE),
        runs=3,
    )
    return encoders + compare(
        f"beam {BEAM}: {UTTERANCES} x {SECONDS} s, {TOKENS} tokens each, size s, the same best hypotheses, "
        f"scores to {TOLERANCE:g}",
        {"ours": ours(model, features), "transformers generate": foreign(theirs, features)},
        amount=float(UTTERANCES * SECONDS),
        unit="audio-s",
        equal=_equal,
        runs=3,
    )


def _inference(work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return torch.inference_mode()(work)


def ours(model: S2TModel, features: torch.Tensor) -> Callable[[], Found]:
    options = BeamOptions(beam=BEAM, max_tokens_ratio=0, max_tokens=TOKENS, min_tokens=TOKENS)
    lengths = torch.full((len(features),), features.shape[1])

    def work() -> Found:
        best = [found[0] for found in beam_search(model, features, lengths, options)]
        return [(list(one.tokens), one.score) for one in best]

    return work


def foreign(model, features: torch.Tensor) -> Callable[[], Found]:
    def work() -> Found:
        found = model.generate(
            features,
            num_beams=BEAM,
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            suppress_tokens=[BOS, PAD],
            return_dict_in_generate=True,
            output_scores=True,
        )
        return list(zip(found.sequences[:, 1:].tolist(), found.sequences_scores.tolist(), strict=True))

    return work


def _equal(one: Found, other: Found) -> bool:
    return all(
        tokens == its_tokens and abs(score - its_score) < TOLERANCE
        for (tokens, score), (its_tokens, its_score) in zip(one, other, strict=True)
    )
