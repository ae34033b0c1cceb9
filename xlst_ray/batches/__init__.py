"""Batches: the plan of an epoch and the readers that carry it out."""
