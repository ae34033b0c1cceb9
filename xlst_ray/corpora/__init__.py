"""Corpora: one reader a file, each yielding `Utterance` rows."""
