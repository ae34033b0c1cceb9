"""Training: the step, the loop, the schedule, checkpoints. Knows neither Ray nor storage."""
