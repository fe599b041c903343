"""Frame policies over lists of images, which stand for videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from mlrec.data.media.policies import (
    FRAME_POLICIES,
    MAX_CANDIDATES,
    FrameRequest,
    FrameSource,
    closest_to_title,
    scenes,
    uniform,
)

COLORS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 30), (128, 128, 128), (0, 0, 0)]
"""Colors of scenes, some of which lie between two bins of a histogram."""


@dataclass
class Images:
    """A list of images as a frame policy sees it."""

    images: np.ndarray
    """uint8 [length, 3]: one color per image."""
    num_read: int = 0

    @property
    def length(self) -> int:
        return len(self.images)

    def read(self, positions: np.ndarray, size: int) -> np.ndarray:
        self.num_read += len(positions)
        pixels = self.images[positions][:, None, None]
        return np.broadcast_to(pixels, (len(positions), size, size, 3))


@dataclass
class Brightness:
    """A similarity to titles: "bright" is close to bright images."""

    size: int = 8
    titles: list[str] = field(default_factory=list)

    def __call__(self, images: np.ndarray, title: str) -> np.ndarray:
        assert images.shape[1:] == (self.size, self.size, 3)
        self.titles.append(title)
        return images.mean(axis=(1, 2, 3))


def film(lengths: Sequence[int]) -> np.ndarray:
    """Return scenes of these lengths with a little noise, uint8 [sum, 3]."""
    noise = np.random.default_rng(0).integers(-3, 4, (sum(lengths), 3))
    colors = np.repeat(COLORS[: len(lengths)], lengths, axis=0)
    return np.clip(colors + noise, 0, 255).astype(np.uint8)


def grey(*values: int) -> Images:
    return Images(np.repeat(np.uint8([values]).T, 3, axis=1))


@pytest.mark.parametrize("lengths", [[1] * 6, [9, 1, 3, 14, 2, 5], [100, 200, 60, 500, 80, 90]])
def test_scenes_of_a_film_picks_each_scene_once(lengths: list[int]) -> None:
    positions = scenes(Images(film(lengths)), FrameRequest(len(lengths)))
    ends = np.cumsum(lengths)
    assert np.searchsorted(ends, positions, side="right").tolist() == list(range(len(lengths)))
    assert positions.dtype == np.int64


def test_scenes_begins_with_the_most_central_frame() -> None:
    assert scenes(grey(0, 40, 60, 80, 200), FrameRequest(1)).tolist() == [2]


def test_scenes_leaves_out_a_single_frame_of_another_color() -> None:
    # such as a flash: it is farther from all scenes than they are from each other
    colors = [(90, 90, 90)] * 9 + [(120, 90, 90)] * 8 + [(255, 255, 0)] + [(90, 120, 90)] * 7
    positions = scenes(Images(np.uint8(colors)), FrameRequest(3))
    assert positions.tolist() == [0, 16, 24]


def test_scenes_of_equal_frames_spreads_them_over_the_video() -> None:
    assert scenes(grey(*[70] * 20), FrameRequest(5)).tolist() == [0, 4, 9, 14, 19]


def test_scenes_with_fewer_colors_than_frames_spreads_the_others() -> None:
    # one frame stands for each of the two short scenes, and more for the long one
    positions = scenes(Images(np.repeat(COLORS[:3], [8, 8, 48], axis=0)), FrameRequest(8))
    shown = np.searchsorted([8, 16], positions, side="right")
    assert np.bincount(shown).tolist() == [1, 1, 6]


def test_scenes_with_ties_picks_the_frame_farthest_in_time() -> None:
    # after the first frame, all others are equally far in color
    assert scenes(grey(0, 0, 0, 255, 255), FrameRequest(2)).tolist() == [0, 4]


@pytest.mark.parametrize("name", FRAME_POLICIES)
def test_frame_policies_with_one_frame_repeat_it(name: str) -> None:
    request = FrameRequest(5, title="a title", similarity=Brightness())
    assert FRAME_POLICIES[name](grey(9), request).tolist() == [0] * 5


@pytest.mark.parametrize("name", ["scenes", "title"])
def test_frame_policies_with_fewer_frames_than_wanted_repeat_them_like_uniform(name: str) -> None:
    source = grey(10, 200, 90)
    request = FrameRequest(7, title="a title", similarity=Brightness())
    assert FRAME_POLICIES[name](source, request).tolist() == uniform(3, 7, 1).tolist()
    # there is nothing to choose
    assert source.num_read == 0


@pytest.mark.parametrize("name", FRAME_POLICIES)
def test_frame_policies_of_a_long_film_read_a_bounded_number_of_frames(name: str) -> None:
    source = Images(film([3000, 4000, 5000]))
    request = FrameRequest(5, title="a title", similarity=Brightness())
    positions = FRAME_POLICIES[name](source, request)
    reads_content = name in ("scenes", "title")
    assert source.num_read == (MAX_CANDIDATES if reads_content else 0)
    assert np.all(np.diff(positions) > 0)


def test_title_picks_the_closest_frames_in_order_of_time() -> None:
    similarity = Brightness()
    request = FrameRequest(3, title="bright", similarity=similarity)
    assert closest_to_title(grey(10, 200, 90, 250, 30, 180), request).tolist() == [1, 3, 5]
    assert similarity.titles == ["bright"]


def test_title_with_ties_picks_the_earlier_frames() -> None:
    request = FrameRequest(2, title="bright", similarity=Brightness())
    assert closest_to_title(grey(10, 90, 90, 90, 10), request).tolist() == [1, 2]


@pytest.mark.parametrize("title", ["", " \n"])
def test_title_of_an_item_without_one_picks_the_frames_of_scenes(title: str) -> None:
    similarity = Brightness()
    source: FrameSource = Images(film([9, 5, 14]))
    request = FrameRequest(3, title=title, similarity=similarity)
    expected = scenes(source, request).tolist()
    assert closest_to_title(source, request).tolist() == expected
    assert not similarity.titles
