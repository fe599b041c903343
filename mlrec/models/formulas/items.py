"""Formulas for the items of a step, from the counts of a data set."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

POPULARITY_SPREAD = 1.05
"""Standard deviation of the logarithm of an item's popularity.

Fitted to MicroLens-50K: `distinct_items` is within 0.5 % of its plans for steps of 120, 480 and
4,096 users, and 2.1 % above that of an epoch in 4 steps.
"""
MAX_QUANTILES = 10_000
"""Largest number of items that the distribution is divided into; each stands for equally many."""


def popularity_shares(items: int) -> tuple[np.ndarray, float]:
    """Return the shares of interactions of items at equal quantiles of a log-normal distribution,
    and the number of items that each stands for."""
    count = max(1, min(items, MAX_QUANTILES))
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((place + 0.5) / count) for place in range(count)])
    weights = np.exp(POPULARITY_SPREAD * quantiles)
    return weights / weights.sum(), items / count


def distinct_items(slots: float, items: int) -> float:
    """Return the expected number of distinct items among `slots` interactions.

    U = sum over items of 1 - exp(-slots * p), where p is the item's share of all interactions.
    Users draw their items independently, which ignores that a user rarely has an item twice.
    """
    shares, items_per_share = popularity_shares(items)
    present = -np.expm1(-slots * shares / items_per_share)
    return float(items_per_share * present.sum())


def most_items(mean_items: float, items: int) -> int:
    """Return the number of distinct items of a run's largest step.

    It is two standard deviations above the mean, as of a Poisson variable, and at most all items.
    """
    return min(items, math.ceil(mean_items + 2 * math.sqrt(mean_items)))
