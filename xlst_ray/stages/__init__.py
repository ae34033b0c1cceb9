"""Stages: one file a job, each with its options, its work and what its folder holds. They know storage, not Ray."""
