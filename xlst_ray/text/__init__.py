"""Text: normalisation, vocabulary, leakage between splits. Pure functions."""
