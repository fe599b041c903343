"""Ranking metrics of full ranking, with ties by expectation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mlrec.config.metric_names import metric_names

METRICS: tuple[str, ...] = metric_names()
"""Metrics at the default cut-offs."""

GROUPS: tuple[tuple[str, int, int], ...] = (
    ("cold", 0, 0),
    ("1-5", 1, 5),
    ("6-20", 6, 20),
    ("21-100", 21, 100),
    (">100", 101, np.iinfo(np.int64).max),
)
"""Popularity groups of targets: name, fewest and most training interactions."""


def _gain_of(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a target's rank (from 1) to its metric."""
    if metric == "mrr":
        return lambda rank: 1.0 / rank
    name, cut_off = metric.split("@")
    if name == "hr":
        return lambda rank: (rank <= int(cut_off)).astype(np.float64)
    return lambda rank: np.where(rank <= int(cut_off), 1.0 / np.log2(rank + 1), 0.0)


def user_metrics(
    better_B: np.ndarray,
    tied_B: np.ndarray,
    catalogue_size: int,
    names: Sequence[str] = METRICS,
) -> dict[str, np.ndarray]:
    """Return each user's metrics, float64 [B].

    A target that ties with m others, below g better ones, has the ranks g + 1 ... g + 1 + m with
    equal probability. Its metric is the mean over them, so that a constant score earns exactly
    what chance earns.

    Args:
        better_B: int64, items ranked above the target.
        tied_B: int64, other items with the target's score.
        catalogue_size: N, the highest possible rank.
        names: metrics to return, of `metric_names`.
    """
    ranks_N = np.arange(1, catalogue_size + 1, dtype=np.float64)
    metrics = {}
    for metric in names:
        gains_N = _gain_of(metric)(ranks_N)
        # Prefix sums give the mean over any range of ranks with one subtraction per user.
        total = np.concatenate([[0.0], np.cumsum(gains_N)])
        metrics[metric] = (total[better_B + tied_B + 1] - total[better_B]) / (tied_B + 1)
    return metrics


def standard_error(values_B: np.ndarray) -> float:
    """Return the standard error of the users' mean; 0 for a single user."""
    if len(values_B) < 2:
        return 0.0
    return float(values_B.std(ddof=1) / math.sqrt(len(values_B)))


def members(popularity_B: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return which users belong to each popularity group of the target, bool [B].

    Empty groups are left out. Without the popularity of the targets there are no groups.
    """
    if popularity_B is None:
        return {}
    groups = {}
    for name, low, high in GROUPS:
        is_member_B = (popularity_B >= low) & (popularity_B <= high)
        # The mean over no users would be NaN, which results.json cannot hold.
        if is_member_B.any():
            groups[name] = is_member_B
    return groups


def summarize(
    per_user: dict[str, np.ndarray], target_popularity_B: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return means over all users and over each popularity group of the target.

    Each group also has the number of its "users". Empty groups are left out.
    """
    everyone_B = np.ones(len(target_popularity_B), dtype=bool)
    summary: dict[str, dict[str, float]] = {}
    for name, is_member_B in {"all": everyone_B, **members(target_popularity_B)}.items():
        if not is_member_B.any():
            continue
        summary[name] = {"users": int(is_member_B.sum())}
        for metric, values_B in per_user.items():
            summary[name][metric] = float(values_B[is_member_B].mean())
    return summary
