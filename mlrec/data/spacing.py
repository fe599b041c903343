"""Evenly spaced samples of a sequence."""

from __future__ import annotations

import numpy as np


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return up to `count` distinct numbers of 0 ... total - 1, int64, ascending."""
    if total <= 0:
        return np.empty(0, dtype=np.int64)
    # Rounding down repeats numbers if `count` exceeds `total`; unique leaves each of them once.
    return np.unique(np.linspace(0, total - 1, count, dtype=np.int64))
