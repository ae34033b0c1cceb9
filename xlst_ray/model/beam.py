"""Batched beam search, as transformers' `generate` defines it (early_stopping=False), so that it can be checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from xlst_ray.config import Section, option
from xlst_ray.model.cache import DecoderCache
from xlst_ray.model.ctc import ctc_collapse
from xlst_ray.model.ctc_prefix import NEVER, CTCPrefixScorer
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BOS, EOS, PAD

CANDIDATES_PER_BEAM = 3  # tokens that CTC scores, for each beam: those that attention finds likeliest


class BeamOptions(Section):
    """How hypotheses are searched. A hypothesis has at most max_tokens_ratio x encoder steps + max_tokens tokens."""

    beam: int = option(5, "hypotheses that are kept", ge=1)
    length_penalty: float = option(1.0, "score = log probability / tokens ** length_penalty; above 0 favours longer")
    max_tokens_ratio: float = option(
        1.0, "cap on the tokens of a hypothesis for each encoder step (fairseq's max_len_a)", unit="tokens/step", ge=0
    )
    max_tokens: int = option(10, "what is added to that cap (fairseq's max_len_b)", unit="tokens", ge=1)
    min_tokens: int = option(1, "a hypothesis does not end before (fairseq's min_len)", unit="tokens", ge=0)
    ctc_weight: float = option(0.0, "share of the CTC head's prefix score; 0: the attention decoder alone", ge=0, lt=1)


@dataclass(frozen=True)
class Hypothesis:
    """One answer.

    Attributes:
        tokens: without `</s>`.
        score: log probability / length ** length_penalty, the length counting `</s>`.
        finished: it ended by `</s>`, and was not cut at the cap.
    """

    tokens: tuple[int, ...]
    score: float
    finished: bool


@torch.inference_mode()
def beam_search(model: S2TModel, features: Tensor, lengths: Tensor, options: BeamOptions) -> list[list[Hypothesis]]:
    """The best hypotheses of each utterance, at most `options.beam`, best first.

    An utterance leaves the batch as soon as no running hypothesis scores above its worst finished one.

    Args:
        features: (B, T, F). lengths: frames (B).
    """
    with _evaluating(model):
        encoded = model.encode(features, lengths)
        caps = (encoded.lengths * options.max_tokens_ratio).long() + options.max_tokens
        ctc = None
        if options.ctc_weight > 0:
            ctc = CTCPrefixScorer(model.ctc_logits(encoded), encoded.lengths, options.beam)
        search = _Search(model.decoder.start(encoded, options.beam), caps, options, ctc)
        while search.utterances.numel():
            search.advance(model.decoder.step(search.tokens[:, :, -1], search.cache))
    return [search.results[number] for number in range(len(features))]


@torch.inference_mode()
def ctc_greedy(model: S2TModel, features: Tensor, lengths: Tensor) -> list[tuple[int, ...]]:
    """The tokens of the CTC head's best path for each utterance; features (B, T, F), lengths in frames (B)."""
    with _evaluating(model):
        encoded = model.encode(features, lengths)
        return ctc_collapse(model.ctc_logits(encoded), encoded.lengths)


class _Search:
    """The running and the finished hypotheses of the utterances that are still in the batch (N of B)."""

    def __init__(
        self, cache: DecoderCache, caps: Tensor, options: BeamOptions, ctc: CTCPrefixScorer | None = None
    ) -> None:
        batch, beams, device = len(caps), options.beam, caps.device
        self.cache, self.caps, self.options, self.ctc = cache, caps, options, ctc
        self.results: dict[int, list[Hypothesis]] = {}
        self.utterances = torch.arange(batch, device=device)
        self.tokens = torch.full((batch, beams, 1), EOS, device=device)  # N, K, steps + 1; the first starts the decoder
        self.log_probs = torch.full((batch, beams), -torch.inf, device=device)
        self.log_probs[:, 0] = 0  # all hypotheses begin alike, so only one of them is extended at first
        self.ended = torch.full((batch, beams, 1), PAD, device=device)  # N, K, steps + 1, padded
        self.scores = torch.full((batch, beams), -torch.inf, device=device)  # of the ended ones, best first

    def advance(self, logits: Tensor) -> None:
        """One token more; `logits` (N, K, V)."""
        beams, count = self.options.beam, self.tokens.shape[2]
        scores = logits.float().log_softmax(-1)
        scores[:, :, [BOS, PAD]] = -torch.inf
        if count <= self.options.min_tokens:
            scores[:, :, EOS] = -torch.inf
        prefixes = None
        if self.ctc is not None:
            scores, prefixes = self._join_ctc(scores, self.ctc)
        # Twice as many as are kept: when all of the first half end there are as many to go on with.
        best, index = (scores + self.log_probs[:, :, None]).flatten(1).topk(2 * beams)
        parents, tokens = index // scores.shape[2], index % scores.shape[2]
        extended = torch.cat([_rows(self.tokens, parents), tokens[:, :, None]], dim=2)
        ends = (tokens == EOS) | (self.caps <= count)[:, None]

        normalised = best / count**self.options.length_penalty
        self._keep_ended(extended[:, :beams], normalised[:, :beams].masked_fill(~ends[:, :beams], -torch.inf))
        self.log_probs, chosen = best.masked_fill(ends, -torch.inf).topk(beams)
        self.tokens = _rows(extended, chosen)
        parents, tokens = parents.gather(1, chosen), tokens.gather(1, chosen)
        self.cache.reorder(parents)
        if self.ctc is not None and prefixes is not None:
            self.ctc.choose(parents, tokens, prefixes.flatten(1).gather(1, parents * scores.shape[2] + tokens))

        hopeless = self.log_probs[:, 0] / count**self.options.length_penalty <= self.scores[:, -1]
        self._leave(hopeless | (self.caps <= count))

    def _join_ctc(self, scores: Tensor, ctc: CTCPrefixScorer) -> tuple[Tensor, Tensor]:
        """Attention scores (N, K, V) mixed with CTC's, for the tokens that attention finds likely; and CTC's alone."""
        weight, vocabulary = self.options.ctc_weight, scores.shape[2]
        likely = scores.topk(min(CANDIDATES_PER_BEAM * self.options.beam, vocabulary)).indices
        candidates = torch.cat([likely, torch.full_like(likely[:, :, :1], EOS)], dim=2)
        found = ctc.extend(candidates, self.tokens[:, :, -1], self.tokens.shape[2] - 1)
        prefixes = torch.full_like(scores, NEVER).scatter(2, candidates, found)
        joint = (1 - weight) * scores + weight * (prefixes - ctc.scores[:, :, None])
        return joint.masked_fill(prefixes <= NEVER, -torch.inf), prefixes

    def _keep_ended(self, tokens: Tensor, scores: Tensor) -> None:
        longer = torch.nn.functional.pad(self.ended, (0, 1), value=PAD)
        self.scores, chosen = torch.cat([self.scores, scores], dim=1).topk(self.options.beam)
        self.ended = _rows(torch.cat([longer, tokens], dim=1), chosen)

    def _leave(self, done: Tensor) -> None:
        if not done.any():
            return
        for number, tokens, scores in zip(
            self.utterances[done].tolist(), self.ended[done].tolist(), self.scores[done].tolist(), strict=True
        ):
            self.results[number] = [
                _hypothesis(row, score) for row, score in zip(tokens, scores, strict=True) if score > -torch.inf
            ]
        stay = (~done).nonzero()[:, 0]
        self.utterances, self.caps = self.utterances[stay], self.caps[stay]
        self.tokens, self.log_probs = self.tokens[stay], self.log_probs[stay]
        self.ended, self.scores = self.ended[stay], self.scores[stay]
        self.cache.select(stay)
        if self.ctc is not None:
            self.ctc.select(stay)


def _hypothesis(row: list[int], score: float) -> Hypothesis:
    tokens = [token for token in row[1:] if token != PAD]
    finished = tokens[-1] == EOS
    return Hypothesis(tuple(tokens[:-1] if finished else tokens), score, finished)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values (N, K, X) at index (N, J) -> (N, J, X)."""
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


@contextmanager
def _evaluating(model: S2TModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
