"""The experiment: which arms, which stages, in which order. No mechanism."""
