"""Learning-rate schedules as functions of the update."""

import math


def inverse_sqrt(update: int, *, peak: float, warmup: int) -> float:
    """fairseq's `inverse_sqrt`: linear to `peak` over `warmup` updates, then falling with 1/sqrt(update).

    Args:
        update: number of this update, from 1.
    """
    if update < warmup:
        return peak * update / warmup
    return peak * math.sqrt(max(warmup, 1) / update)
