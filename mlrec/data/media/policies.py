"""Choice of the frames that represent a video.

A policy gets a `FrameSource` and a `FrameRequest`, and returns int64 positions [T] in the order of
time. A source is a video or a list of images. It decodes small versions of the frames that a
policy asks for, so `middle` and `uniform`, which need none, cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

MAX_CANDIDATES = 64
"""Frames of a video that `scenes` and `title` choose from: decoding an hour takes minutes."""
SCENE_SIZE_PX = 32
"""Height and width of the images whose colors `scenes` compares."""
BIN_WIDTH = 64
"""Distance of two bins of a color histogram, in values of a channel from 0 to 255."""
BINS = 5
"""Bins per channel, centered at 0, 64, 128, 192 and 256."""


class FrameSource(Protocol):
    """The frames of a video, or a list of images."""

    @property
    def length(self) -> int:
        """Number of frames, 1 or more."""

    def read(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Return the frames at ascending int64 positions [n] as uint8 RGB [n, size, size, 3]."""


class TitleSimilarity(Protocol):
    """A model that compares images with a title."""

    size: int
    """Height and width of its images in pixels."""

    def __call__(self, images: np.ndarray, title: str) -> np.ndarray:
        """Return the similarity of uint8 RGB images [n, size, size, 3] to the title, float [n]."""


@dataclass(frozen=True)
class FrameRequest:
    """The frames that are wanted of an item."""

    frames: int
    """T, which may exceed the frames of the video: some repeat then."""
    interval: int = 1
    """Distance of neighboring frames, with policy middle."""
    title: str = ""
    """Title of the item, for policy title."""
    similarity: TitleSimilarity | None = None
    """Model of policy title; None with the others."""


CountPolicy = Callable[[int, int, int], np.ndarray]
"""(frames of the video, T, interval) to int64 positions [T]."""
FramePolicy = Callable[[FrameSource, FrameRequest], np.ndarray]
"""Returns int64 positions [T], ascending."""


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


def scenes(source: FrameSource, request: FrameRequest) -> np.ndarray:
    """Return T candidates whose colors differ, each of which stands for a part of the video.

    Each frame in turn is the one after which all candidates are nearest, in sum, to the frames
    chosen so far. This greedy choice reaches at least 63 % of the best possible gain (Nemhauser et
    al., 1978). Farthest points would also differ, but are fades, flashes and black frames.
    Of equal frames, the one farthest in time from those chosen is taken. n candidates take n^2
    distances between histograms of 125 bins, and T n^2 comparisons.
    """
    candidates = _candidates(source.length)
    if request.frames >= len(candidates):
        return uniform(source.length, request.frames, request.interval)
    histograms = _color_histograms(source.read(candidates, SCENE_SIZE_PX))
    chosen: np.ndarray = candidates[_representatives(histograms, request.frames)]
    return chosen


def closest_to_title(source: FrameSource, request: FrameRequest) -> np.ndarray:
    """Return the T candidates closest to the title; those of `scenes` for an item without title.

    Ties go to the earlier frame.
    """
    if not request.title.strip():
        return scenes(source, request)
    candidates = _candidates(source.length)
    if request.frames >= len(candidates):
        return uniform(source.length, request.frames, request.interval)
    assert request.similarity is not None
    images = source.read(candidates, request.similarity.size)
    similarities = request.similarity(images, request.title)
    # stable: of equal frames, the earlier ones come first
    closest = np.argsort(-similarities, kind="stable")[: request.frames]
    return candidates[np.sort(closest)]


def _candidates(length: int) -> np.ndarray:
    """Return up to MAX_CANDIDATES evenly spaced positions without repeats, int64, ascending."""
    # the middles of equal parts: first and last frames are often black
    return np.unique(uniform(length, MAX_CANDIDATES, 1))


def _color_histograms(images: np.ndarray) -> np.ndarray:
    """Return joint histograms of red, green and blue, int64 [n, BINS^3].

    A value is shared by the two bins around it, so that noise at their border changes little.
    Integers make the distances, and with them the choice, the same on every machine.

    Args:
        images: uint8 [n, H, W, 3].
    """
    values = images.reshape(len(images), -1, 3).astype(np.int64)
    lower_bins = values // BIN_WIDTH
    upper_weights = values % BIN_WIDTH
    histograms = np.zeros((len(images), BINS**3), dtype=np.int64)
    # the eight combinations of lower and upper bin of the three channels
    for steps in product((0, 1), repeat=3):
        weights = np.where(steps, upper_weights, BIN_WIDTH - upper_weights).prod(axis=-1)
        bins = np.ravel_multi_index(tuple(np.moveaxis(lower_bins + steps, -1, 0)), (BINS,) * 3)
        for row in range(len(images)):
            np.add.at(histograms[row], bins[row], weights[row])
    return histograms


def _representatives(histograms: np.ndarray, count: int) -> np.ndarray:
    """Return the rows that stand for all rows, by L1 distance, int64 [count], ascending."""
    distances = np.stack([np.abs(histograms - row).sum(axis=1) for row in histograms])
    # no distance is larger than that of two histograms without a common bin
    nearest = np.full(len(distances), 2 * histograms[0].sum())
    chosen: list[int] = []
    while len(chosen) < count:
        sums = np.minimum(nearest, distances).sum(axis=1)
        # a chosen frame is never chosen again, not even if all frames are equal
        sums[chosen] = np.iinfo(np.int64).max
        chosen.append(_farthest(np.flatnonzero(sums == sums.min()), chosen))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    return np.sort(chosen)


def _farthest(equals: np.ndarray, chosen: list[int]) -> int:
    """Return the row that is farthest in time from the chosen ones, the first of several.

    Frames of a still scene are equal. So they are spread over the scene, and not its first ones.
    """
    if not chosen:
        return int(equals[0])
    gaps = np.abs(equals[:, None] - np.array(chosen)).min(axis=1)
    return int(equals[gaps.argmax()])


def _by_count(policy: CountPolicy) -> FramePolicy:
    return lambda source, request: policy(source.length, request.frames, request.interval)


COUNT_POLICIES: dict[str, CountPolicy] = {"middle": middle, "uniform": uniform}
"""Policies that need only the number of frames. Readers of clips apply them to each clip."""
FRAME_POLICIES: dict[str, FramePolicy] = {
    "middle": _by_count(middle),
    "uniform": _by_count(uniform),
    "scenes": scenes,
    "title": closest_to_title,
}
"""Every policy by the value of --policy."""
