"""Choice of the frames that represent a video."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FramePolicy = Callable[[int, int, int], np.ndarray]
"""(frames of the video, T, interval) to int64 positions [T]."""


def middle(length: int, frames: int, interval: int) -> np.ndarray:
    """Return T positions around the middle, `interval` apart.

    A short video repeats its ends. The paper uses T = 5 and interval 1.
    """
    first = length // 2 - (frames // 2) * interval
    return np.clip(first + interval * np.arange(frames), 0, length - 1)


def uniform(length: int, frames: int, interval: int) -> np.ndarray:
    """Return the middles of T equal parts of the video; `interval` has no effect."""
    del interval
    return ((np.arange(frames) + 0.5) * length / frames).astype(np.int64)


FRAME_POLICIES: dict[str, FramePolicy] = {"middle": middle, "uniform": uniform}
