"""Sweeps, the part without Ray: what is varied, which trials there are, and what came of them."""
