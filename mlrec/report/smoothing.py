"""Long curves: smoothed, and with a limited number of points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

MAX_WINDOW_SHARE = 0.1
"""Largest share of the values so far that the moving average spans."""


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Return the exponential moving average of a curve, which starts at the first value.

    Args:
        weight: of the average so far, 0 to below 1. It is less at the start, where a constant
            weight would lag behind a curve that falls steeply.
    """
    average = 0.0
    averages = []
    for place, value in enumerate(values):
        # an average of weight w spans 1 / (1 - w) values
        weight_here = min(weight, place / (place + 1 / MAX_WINDOW_SHARE))
        average = weight_here * average + (1 - weight_here) * value
        averages.append(average)
    return averages


def spaced(total: int, count: int, is_log: bool = False) -> list[int]:
    """Return up to `count` distinct places of a curve, the first and the last included.

    Args:
        is_log: whether they are evenly spaced on a logarithmic axis.
    """
    space = np.geomspace if is_log else np.linspace
    places: list[int] = np.unique(np.round(space(1, total, count)).astype(np.int64) - 1).tolist()
    return places


def extremes(values: Sequence[float], count: int, is_log: bool = False) -> list[int]:
    """Return up to `count` places that keep the outline of a curve, ascending.

    These are the smallest and the largest value of each part, so that no spike is lost.
    """
    if len(values) <= count:
        return list(range(len(values)))
    places = {0, len(values) - 1}
    values_n = np.asarray(values)
    for start, end in pairwise(spaced(len(values), count // 2, is_log)):
        places.add(start + int(values_n[start:end].argmin()))
        places.add(start + int(values_n[start:end].argmax()))
    return sorted(places)
