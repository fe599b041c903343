"""Long curves: smoothed, and with a limited number of points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mlrec.data.spacing import evenly_spaced


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Return the exponential moving average of a curve, as TensorBoard computes it.

    Args:
        weight: of the average so far, 0 to below 1. The start is corrected for the missing past, so
            that the first value stays as it is.
    """
    average = 0.0
    total_weight = 0.0
    averages = []
    for value in values:
        average = weight * average + (1 - weight) * value
        total_weight = weight * total_weight + (1 - weight)
        averages.append(average / total_weight)
    return averages


def extremes(values: Sequence[float], most: int) -> list[int]:
    """Return the places of up to `most` values that keep the outline of a curve, ascending.

    These are the smallest and the largest value of equally long parts, so that no spike is lost.
    """
    if len(values) <= most:
        return list(range(len(values)))
    places = {0, len(values) - 1}
    bounds = np.linspace(0, len(values), (most - 2) // 2 + 1, dtype=np.int64).tolist()
    values_n = np.asarray(values)
    for start, end in pairwise(bounds):
        places.add(start + int(values_n[start:end].argmin()))
        places.add(start + int(values_n[start:end].argmax()))
    return sorted(places)


def evenly(values: Sequence[float], most: int) -> list[int]:
    """Return the places of up to `most` evenly spaced values, the first and the last included."""
    places: list[int] = evenly_spaced(len(values), most).tolist()
    return places
