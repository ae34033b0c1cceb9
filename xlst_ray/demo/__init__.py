"""The demo corpus: a bilingual grammar of ours, spoken by espeak-ng."""
