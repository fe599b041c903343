"""Ranking metrics of full ranking, with ties by expectation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np

from mlrec.config.configs import Metric

METRICS: tuple[str, ...] = get_args(Metric)

GROUPS: tuple[tuple[str, int, int], ...] = (
    ("cold", 0, 0),
    ("1-5", 1, 5),
    ("6-20", 6, 20),
    ("21-100", 21, 100),
    (">100", 101, np.iinfo(np.int64).max),
)
"""Popularity groups of the target: name, and its training interactions from ... to."""


def _gain_of(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """What a target at a rank (from 1) earns."""
    if metric == "mrr":
        return lambda rank: 1.0 / rank
    name, cut_off = metric.split("@")
    if name == "hr":
        return lambda rank: (rank <= int(cut_off)).astype(np.float64)
    return lambda rank: np.where(rank <= int(cut_off), 1.0 / np.log2(rank + 1), 0.0)


def user_metrics(
    better_B: np.ndarray, tied_B: np.ndarray, catalogue_size: int
) -> dict[str, np.ndarray]:
    """Each user's metrics, float64 [B].

    A target that ties with m others behind g better ones has the ranks g + 1 ... g + 1 + m with equal chance; its metric is the
    mean over them, so that a constant score earns chance and nothing by luck.

    Args:
        better_B: int64, items ranked above the target.
        tied_B: int64, other items with the target's score.
        catalogue_size: N, the highest possible rank.
    """
    ranks = np.arange(1, catalogue_size + 1, dtype=np.float64)
    results = {}
    for metric in METRICS:
        total = np.concatenate([[0.0], np.cumsum(_gain_of(metric)(ranks))])
        results[metric] = (total[better_B + tied_B + 1] - total[better_B]) / (tied_B + 1)
    return results


def standard_error(values_B: np.ndarray) -> float:
    """The standard error of the users' mean; 0 for a single user."""
    return float(values_B.std(ddof=1) / math.sqrt(len(values_B))) if len(values_B) > 1 else 0.0


def summarize(
    per_user: dict[str, np.ndarray], target_popularity_B: np.ndarray
) -> dict[str, dict[str, float]]:
    """Means over all users and over each popularity group of the target, with the number of users in it."""
    members = {"all": np.ones(len(target_popularity_B), dtype=bool)}
    for name, low, high in GROUPS:
        members[name] = (target_popularity_B >= low) & (target_popularity_B <= high)
    return {
        name: {
            "users": int(chosen.sum()),
            **{metric: float(values[chosen].mean()) for metric, values in per_user.items()},
        }
        for name, chosen in members.items()
        if chosen.any()
    }
