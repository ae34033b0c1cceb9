"""Batched beam search, as transformers' `generate` defines it, so that it can be checked; and greedy CTC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from xlst_ray.config import Section, option
from xlst_ray.model.cache import DecoderCache
from xlst_ray.model.ctc import ctc_collapse
from xlst_ray.model.ctc_prefix import NEVER, CTCPrefixScorer
from xlst_ray.model.s2t import S2TModel
from xlst_ray.text.ids import BOS, EOS, PAD

CTC_WEIGHT: Final = 0.3
CANDIDATES_PER_BEAM: Final = 3  # tokens that CTC scores, for each beam: those that attention finds likeliest
LOOP_TIMES: Final = 4  # that an n-gram follows itself before a hypothesis counts as looping
LOOP_TOKENS: Final = 12  # that they make up together: "ha ha ha ha" is none
LONGEST_LOOP: Final = 16  # tokens of the n-gram


class BeamOptions(Section):
    """How hypotheses are searched. A hypothesis has at most max_tokens_ratio x encoder steps + max_tokens tokens."""

    beam: int = option(5, "hypotheses that are kept", ge=1)
    length_penalty: float = option(1.0, "score = log probability / tokens ** length_penalty; above 0 favours longer")
    max_tokens_ratio: float = option(
        1.0, "cap on the tokens of a hypothesis for each encoder step (fairseq's max_len_a)", unit="tokens/step", ge=0
    )
    max_tokens: int = option(10, "what is added to that cap (fairseq's max_len_b)", unit="tokens", ge=1)
    min_tokens: int = option(
        1,
        "a hypothesis does not end before (fairseq's min_len), unless ctc_weight is above 0 and the speech too short "
        "for CTC to say more",
        unit="tokens",
        ge=0,
    )
    early_stopping: bool | Literal["never"] = option(
        False,
        "an utterance is done: true: when as many hypotheses have ended as are kept; false: when none that runs scores "
        "above the worst of those; never: when none could, however long it gets",
    )
    ctc_weight: float | None = option(
        None,
        "share of the CTC head's prefix score; 0: the attention decoder alone, which in small models is far worse; "
        f"none: {CTC_WEIGHT} where there is such a head",
        ge=0,
        lt=1,
    )


@dataclass(frozen=True)
class Hypothesis:
    """One answer.

    Attributes:
        tokens: without `</s>`.
        score: log probability / length ** length_penalty, the length counting `</s>`.
        finished: it ended by `</s>`, and was not cut at the cap.
        looping: it says the same over and over (`is_looping`), as decoders do where they have lost the speech.
        no_speech: the CTC head hears nothing at all in the utterance; never where there is no such head.
    """

    tokens: tuple[int, ...]
    score: float
    finished: bool
    looping: bool = False
    no_speech: bool = False


class Recognition(NamedTuple):
    """Of one utterance: 1 to `beam` hypotheses, best first, and the CTC head's best path where there is a head."""

    hypotheses: list[Hypothesis]
    ctc: tuple[int, ...] | None


@torch.inference_mode()
def recognise(
    model: S2TModel, features: Tensor, lengths: Tensor, options: BeamOptions, starts: Tensor | None = None
) -> list[Recognition]:
    """What is said in each utterance, by beam search and by greedy CTC.

    An utterance leaves the batch as soon as it is done (`options.early_stopping`).

    Args:
        features: (B, T, F). lengths: frames (B).
        starts: tokens (B) that start the decoder, as of the language that is to be written; none: `</s>`.

    Raises:
        ConfigError: joint scores are asked of a model without a CTC head.
    """
    with _evaluating(model):
        encoded = model.encode(features, lengths)
        caps = (encoded.lengths * options.max_tokens_ratio).long() + options.max_tokens
        ctc, heard = None, list[tuple[int, ...] | None]([None] * len(features))
        weight = options.ctc_weight
        if weight is None:
            weight = 0.0 if model.ctc is None else CTC_WEIGHT
        if model.ctc is not None or weight > 0:
            logits = model.ctc_logits(encoded)
            heard = [*ctc_collapse(logits, encoded.lengths)]
            if weight > 0:
                ctc = CTCPrefixScorer(logits, encoded.lengths, options.beam)
        search = _Search(
            model.decoder.start(encoded, options.beam), caps, options.replace(ctc_weight=weight), ctc, starts
        )
        while search.utterances.numel():
            search.advance(model.decoder.step(search.tokens[:, :, -1], search.cache))
    return [
        Recognition([replace(one, no_speech=path == ()) for one in search.results[number]], path)
        for number, path in enumerate(heard)
    ]


def beam_search(model: S2TModel, features: Tensor, lengths: Tensor, options: BeamOptions) -> list[list[Hypothesis]]:
    """The hypotheses of `recognise`."""
    return [found.hypotheses for found in recognise(model, features, lengths, options)]


class _Search:
    """The running and the finished hypotheses of the utterances that are still in the batch (N of B)."""

    def __init__(
        self,
        cache: DecoderCache,
        caps: Tensor,
        options: BeamOptions,
        ctc: CTCPrefixScorer | None = None,
        starts: Tensor | None = None,
    ) -> None:
        batch, beams, device = len(caps), options.beam, caps.device
        self.cache, self.caps, self.options, self.ctc = cache, caps, options, ctc
        self.results: dict[int, list[Hypothesis]] = {}
        self.utterances = torch.arange(batch, device=device)
        starts = torch.full((batch,), EOS, device=device) if starts is None else starts
        self.tokens = starts[:, None, None].repeat(1, beams, 1)  # N, K, steps + 1; the first starts the decoder
        self.log_probs = torch.full((batch, beams), -torch.inf, device=device)
        self.log_probs[:, 0] = 0  # all hypotheses begin alike, so only one of them is extended at first
        self.ended = torch.full((batch, beams, 1), PAD, device=device)  # N, K, steps + 1, padded
        self.scores = torch.full((batch, beams), -torch.inf, device=device)  # of the ended ones, best first

    def advance(self, logits: Tensor) -> None:
        """One token more; `logits` (N, K, V)."""
        beams, count = self.options.beam, self.tokens.shape[2]
        scores = logits.float().log_softmax(-1)
        scores[:, :, [BOS, PAD]] = -torch.inf
        prefixes = None
        if self.ctc is not None:
            scores, prefixes = self._join_ctc(scores, self.ctc)
        if count <= self.options.min_tokens:
            self._go_on(scores)
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

        self._leave(self._is_done(count) | (self.caps <= count))

    def _go_on(self, scores: Tensor) -> None:
        """Forbids the end, but to utterances no hypothesis of which can go on: CTC has no step left for a token."""
        ending = scores[:, :, EOS].clone()
        scores[:, :, EOS] = -torch.inf
        stuck = (scores.amax(2) + self.log_probs == -torch.inf).all(1)
        scores[:, :, EOS] = ending.masked_fill(~stuck[:, None], -torch.inf)

    def _is_done(self, count: int) -> Tensor:
        """Which utterances need no further step after `count` tokens, (N,)."""
        penalty, worst = self.options.length_penalty, self.scores[:, -1]
        if self.options.early_stopping == "never" and penalty > 0:
            hopeful = self.log_probs[:, 0] / self.caps**penalty  # as if no further token cost anything
        else:
            hopeful = self.log_probs[:, 0] / count**penalty
        done = hopeful <= worst
        return done | (worst > -torch.inf) if self.options.early_stopping is True else done

    def _join_ctc(self, scores: Tensor, ctc: CTCPrefixScorer) -> tuple[Tensor, Tensor]:
        """Attention scores (N, K, V) mixed with CTC's, for the tokens that attention finds likely; and CTC's alone."""
        weight, vocabulary = self.options.ctc_weight or 0.0, scores.shape[2]
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
    said = tuple(tokens[:-1] if finished else tokens)
    return Hypothesis(said, score, finished, is_looping(said))


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether an n-gram follows itself `LOOP_TIMES` times or more, over at least `LOOP_TOKENS` tokens."""
    for size in range(1, min(LONGEST_LOOP, len(tokens) // 2) + 1):
        needed, alike = max(size * LOOP_TIMES, LOOP_TOKENS) - size, 0  # tokens that equal the one `size` before
        for one, other in zip(tokens, tokens[size:], strict=False):
            alike = alike + 1 if one == other else 0
            if alike >= needed:
                return True
    return False


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
