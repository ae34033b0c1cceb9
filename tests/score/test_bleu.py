import pytest
import sacrebleu

from xlst_ray.score.bleu import score_translations

REFERENCES = ["de kat zit in de keuken", "waar is de vis?", "dit is een grote haai"]
HYPOTHESES = ["de kat zat in de keuken", "waar is de vis?", "dit is een haai"]


def test_sacrebleu_numbers_and_signatures() -> None:
    score = score_translations(REFERENCES, HYPOTHESES, "nl")
    assert score.bleu == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert score.chrf == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert "tok:13a" in score.bleu_signature
    assert "nrefs:1" in score.bleu_signature
    assert f"version:{sacrebleu.__version__}" in score.chrf_signature
    assert "nc:6|nw:0" in score.chrf_signature


def test_perfect_translations() -> None:
    score = score_translations(REFERENCES, REFERENCES, "nl")
    assert (score.bleu, score.chrf) == (pytest.approx(100), pytest.approx(100))


@pytest.mark.parametrize("lang", ["zh-CN", "ja"])
def test_characters_where_words_are_not_spaced(lang: str) -> None:
    references, hypotheses = ["厨房在哪里呢我的朋友"], ["厨房在哪里呢朋友"]
    score = score_translations(references, hypotheses, lang)
    assert "tok:char" in score.bleu_signature
    assert score.bleu == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score)
    assert 50 < score.bleu < 100


@pytest.mark.parametrize(("references", "hypotheses"), [([], []), (["a"], ["a", "b"])])
def test_lengths(references: list[str], hypotheses: list[str]) -> None:
    with pytest.raises(ValueError, match="references"):
        score_translations(references, hypotheses, "nl")
