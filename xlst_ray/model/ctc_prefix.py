"""CTC prefix scores, for joint CTC/attention decoding (Hori, Watanabe, Hershey, ACL 2017, algorithm 2), in batches.

Legend: B utterances, S encoder steps, V vocabulary, K hypotheses of an utterance, P candidates to extend each of them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from xlst_ray.text.ids import BLANK, EOS

NEVER = -1e10  # log of nothing; finite, so that differences of two such scores are numbers


class CTCPrefixScorer:
    """log p(a transcript begins with a hypothesis | speech), by the CTC head, for K hypotheses of each utterance.

    For every encoder step t it keeps the log probability of all paths up to t that spell the hypothesis, apart for
    those that end in its last token and in a blank (r^n and r^b of the paper).

    Args:
        logits: of the CTC head (B, S, V). lengths: encoder steps (B). beams: K.
    """

    def __init__(self, logits: Tensor, lengths: Tensor, beams: int) -> None:
        log_probs = logits.float().log_softmax(-1).clamp(min=NEVER)
        beyond = torch.arange(logits.shape[1], device=logits.device)[None] >= lengths[:, None]
        log_probs.masked_fill_(beyond[:, :, None], NEVER)
        log_probs[:, :, BLANK].masked_fill_(beyond, 0.0)  # behind its end an utterance stays as it is
        self._log_probs = log_probs
        blank = log_probs[:, :, BLANK].cumsum(1)[:, None].expand(-1, beams, -1)  # nothing but blanks: the empty prefix
        self._paths = torch.stack([torch.full_like(blank, NEVER), blank], dim=-1)  # B, K, S, (token, blank)
        self.scores = torch.zeros(blank.shape[:2], device=logits.device)  # of the hypotheses as prefixes, (B, K)
        self._candidates, self._extended = self.scores[:, :, None], self._paths[:, :, None]

    def extend(self, candidates: Tensor, last: Tensor, steps: int) -> Tensor:
        """Scores of the hypotheses extended by each of the candidates (B, K, P), as prefixes; by `</s>` as a whole.

        Args:
            candidates: token ids (B, K, P).
            last: the last token of each hypothesis (B, K); anything before the first.
            steps: tokens that each hypothesis has.
        """
        batch, beams, count = candidates.shape
        emitted = self._log_probs.gather(2, candidates.reshape(batch, 1, -1).expand(-1, self._log_probs.shape[1], -1))
        emitted = emitted.view(batch, -1, beams, count).permute(1, 0, 2, 3)  # S, B, K, P
        blank = self._log_probs[:, :, BLANK].t()[:, :, None, None]  # S, B, 1, 1
        token_paths, blank_paths = self._paths.unbind(-1)
        either = torch.logaddexp(token_paths, blank_paths)
        repeated = candidates == last[:, :, None]
        # Paths that the candidate may follow: after its own repetition only those that end in a blank.
        before = torch.where(repeated[..., None], blank_paths[:, :, None], either[:, :, None]).permute(3, 0, 1, 2)
        start = torch.full_like(before[:1], 0.0 if steps == 0 else NEVER)  # before any speech the prefix is empty
        first = emitted + torch.cat([start, before[:-1]])  # paths whose last step is the candidate's first
        recur = _paths_by_step if emitted.device.type == "cpu" else _paths_by_scan
        self._candidates, self._extended = candidates, recur(first, emitted, blank, steps)
        return torch.where(candidates == EOS, either[:, :, -1:], first[steps:].logsumexp(0))

    def choose(self, parents: Tensor, tokens: Tensor, scores: Tensor) -> None:
        """Hypothesis k of an utterance becomes hypothesis `parents[k]` extended by `tokens[k]`; all (B, K)."""
        index = parents[:, :, None]
        options = self._candidates.gather(1, index.expand(-1, -1, self._candidates.shape[2]))
        place = (options == tokens[:, :, None]).int().argmax(2)  # of the token among its parent's candidates
        flat = self._extended.flatten(1, 2)
        at = (parents * self._candidates.shape[2] + place)[:, :, None, None].expand(-1, -1, *flat.shape[2:])
        self._paths, self.scores = flat.gather(1, at), scores

    def select(self, utterances: Tensor) -> None:
        """Keeps these utterances only, by their place in the batch."""
        self._log_probs, self._paths = self._log_probs[utterances], self._paths[utterances]
        self.scores = self.scores[utterances]


def _paths_by_step(first: Tensor, emitted: Tensor, blank: Tensor, steps: int) -> Tensor:
    """Paths up to each encoder step that end in the candidate, and that end in a blank after it; (B, K, P, S, 2).

    Args:
        first: paths whose last step is the candidate's first (S, B, K, P).
        emitted, blank: log probability of the candidate (S, B, K, P) and of a blank (S, B, 1, 1).
        steps: a prefix of so many tokens takes as many encoder steps at least.
    """
    token = other = torch.full_like(first[0], NEVER)
    ends_in_token, ends_in_blank = [token] * steps, [other] * steps
    for t in range(steps, len(emitted)):
        token, other = torch.logaddexp(token + emitted[t], first[t]), torch.logaddexp(token, other) + blank[t]
        ends_in_token.append(token)
        ends_in_blank.append(other)
    return torch.stack([torch.stack(ends_in_token, -1), torch.stack(ends_in_blank, -1)], dim=-1)


def _paths_by_scan(first: Tensor, emitted: Tensor, blank: Tensor, steps: int) -> Tensor:
    """`_paths_by_step` in a few operations over all steps, where each operation has a cost of its own: on a GPU.

    Divided by the product of all emissions so far, the recursion is a running sum. Those products span thousands in
    the logarithm, whence float64.
    """
    first = first.double().masked_fill(
        torch.arange(len(first), device=first.device)[:, None, None, None] < steps, NEVER
    )
    token = _running(first, emitted.double().cumsum(0))
    left = F.pad(token[:-1], (0, 0) * 3 + (1, 0), value=NEVER)  # the candidate ended a step ago
    blanks = blank.double().cumsum(0)
    other = _running(left + blank, blanks)
    return torch.stack([token, other], dim=-1).permute(1, 2, 3, 0, 4).to(emitted.dtype)


def _running(entering: Tensor, passed: Tensor) -> Tensor:
    """log sum over s <= t of exp(entering[s] + passed[t] - passed[s]): what came in and stayed until t; (S, ...)."""
    return passed + torch.logcumsumexp(entering - passed, 0)
