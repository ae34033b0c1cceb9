"""BLEU and chrF of translations, as sacreBLEU counts them, with its signatures."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF

from xlst_ray.languages import language


@dataclass(frozen=True)
class TextScore:
    """Corpus BLEU and chrF, 0 to 100, each with the signature that says how it was counted."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score_translations(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> TextScore:
    """Score translations into `lang` against one reference each.

    BLEU is on 13a tokens, on characters in languages without spaces (as CoVoST 2 does for Chinese and Japanese).

    Raises:
        ValueError: not as many hypotheses as references, or none.
    """
    if len(references) != len(hypotheses) or not references:
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    bleu, chrf = BLEU(tokenize="13a" if language(lang).spaces else "char"), CHRF()
    streams = list(hypotheses), [list(references)]
    return TextScore(
        bleu=float(bleu.corpus_score(*streams).score),
        chrf=float(chrf.corpus_score(*streams).score),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )
