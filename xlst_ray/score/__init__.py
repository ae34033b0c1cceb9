"""Scores: WER, CER, BLEU, chrF, confidence intervals and paired significance."""
