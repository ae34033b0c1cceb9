"""The adapter room: the only one that imports Ray."""
