"""Video, cover and title of a synthetic item.

All of its factors show in the video. Two of them, hue and shape, show in cover and title, with
noise.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shards_tools.pack.media import encode_h264, encode_jpeg

SHAPES = ("circle", "square", "triangle", "cross")
TEXTURES = ("plain", "rows", "columns", "checks")

VIDEO_SIZES = ((96, 160), (160, 96), (120, 160), (128, 128), (160, 112))
"""Heights and widths in pixels."""
FRAME_RATES = (12, 15, 24, 25, 30)
"""Frames per second."""
DURATION_S = (1.0, 1.5)
"""Least and greatest length of a video in seconds."""
SPEED = (0.8, 1.2)
"""Least and greatest speed of the object in frame widths per second.

The direction must show under both frame policies. At 30 frames per second the object moves 0.1
frame widths within 5 neighbouring frames. Between 5 frames spread over the whole video it moves
less than half a frame width.
"""
RADIUS = (0.26, 0.33)
"""Least and greatest radius of the object in frame widths."""
CENTRE = (0.35, 0.65)
"""Range of the object's x and y half-way, in frame widths and heights."""
TILES = 4
"""Stripes across the frame, coarse enough to show at 32 x 32 pixels."""
CRF = 23
"""x264's constant rate factor."""
COVER_SIZE = (144, 192)
"""Height and width in pixels."""
COVER_HUE_NOISE = 0.5
"""Standard deviation of a cover's hue in radians."""
COVER_QUALITY = 90

TITLE_COLOUR_ACCURACY = 0.6
"""Probability that a title names the colour on purpose, not at random."""
TITLE_SHAPE_ACCURACY = 0.4
"""Probability that a title names the shape on purpose, not at random."""
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
"""Words for equal arcs of the hue circle. The first arc is around 0."""
NOUNS = {"circle": "ball", "square": "box", "triangle": "tent", "cross": "windmill"}
OPENINGS = (
    "watch this",
    "you will not believe this",
    "my new",
    "how to draw a",
    "the story of a",
    "one more",
    "a day with my",
)
TAGS = ("funny", "diy", "daily life", "unexpected ending", "tutorial", "relaxing", "must see")


@dataclass(frozen=True)
class Look:
    """The factors of one item."""

    hue: float
    """Angle in radians."""
    shape: int
    """Index in SHAPES."""
    texture: int
    """Index in TEXTURES."""
    direction: float
    """Angle of the motion in radians, clockwise, where 0 is to the right."""


def video_bytes(look: Look, rng: np.random.Generator) -> bytes:
    """Return an MP4 with the object moving over its background.

    The object leaves at one side and comes back at the other. Half-way it is near the centre, so
    that the middle frames show all of it.
    """
    # The order of the draws decides the bytes.
    height, width = VIDEO_SIZES[rng.integers(len(VIDEO_SIZES))]
    # sizes and rates differ as in real data, so that packers meet all of them
    rate = FRAME_RATES[rng.integers(len(FRAME_RATES))]
    length = round(rng.uniform(*DURATION_S) * rate)
    radius = rng.uniform(*RADIUS)
    brightness = rng.uniform(0.85, 1.0)
    background = _background(look.texture, height, width, phase_2=rng.uniform(size=2))
    colour = _rgb(look.hue)
    heading_2 = np.array([np.cos(look.direction), np.sin(look.direction)])
    step_2 = heading_2 * rng.uniform(*SPEED) / rate
    centre_2 = rng.uniform(*CENTRE, size=2)
    images = []
    for index in range(length):
        place_2 = centre_2 + (index - length / 2) * step_2
        images.append(_draw(background, look.shape, place_2, radius, colour, brightness))
    return encode_h264(images, rate, gop=rate, crf=CRF)


def cover_bytes(look: Look, rng: np.random.Generator) -> bytes:
    """Return a JPEG with the shape, in nearly its colour, on a plain background."""
    background = _background(TEXTURES.index("plain"), *COVER_SIZE, phase_2=np.zeros(2))
    colour = _rgb(look.hue + COVER_HUE_NOISE * rng.standard_normal())
    image = _draw(background, look.shape, rng.uniform(*CENTRE, size=2), 0.3, colour, 1.0)
    return encode_jpeg(image, COVER_QUALITY)


def title(look: Look, rng: np.random.Generator) -> str:
    """Return a title that names colour and shape, often wrongly."""
    # the arc around hue 0 is half below 2 pi, hence the modulo
    colour = round(look.hue / (2 * np.pi) * len(COLOURS)) % len(COLOURS)
    if rng.uniform() > TITLE_COLOUR_ACCURACY:
        colour = int(rng.integers(len(COLOURS)))
    shape = look.shape if rng.uniform() < TITLE_SHAPE_ACCURACY else int(rng.integers(len(SHAPES)))
    # tags say nothing about the item: they are noise for text encoders
    first, second = rng.choice(len(TAGS), size=2, replace=False)
    opening = OPENINGS[rng.integers(len(OPENINGS))]
    return f"{opening} {COLOURS[colour]} {NOUNS[SHAPES[shape]]} # {TAGS[first]} # {TAGS[second]}"


def _rgb(hue: float) -> np.ndarray:
    """Return the colour of a hue as float RGB [3] in 0 ... 1."""
    return np.array(colorsys.hsv_to_rgb(hue / (2 * np.pi) % 1.0, 0.95, 0.95))


class _Grid(NamedTuple):
    """Coordinates of the pixels' centres.

    They are in frame widths and heights, so that scaling the frame to a square keeps the shapes.
    """

    x_1W: np.ndarray
    y_H1: np.ndarray


def _grid(height: int, width: int) -> _Grid:
    x_1W = (np.arange(width)[None, :] + 0.5) / width
    y_H1 = (np.arange(height)[:, None] + 0.5) / height
    return _Grid(x_1W, y_H1)


def _background(texture: int, height: int, width: int, phase_2: np.ndarray) -> np.ndarray:
    """Return a grey texture as float RGB [H, W, 3] in 0 ... 1."""
    x_1W, y_H1 = _grid(height, width)
    # 0 or 1 for each stripe
    column_1W = np.floor(TILES * (x_1W + phase_2[0])) % 2
    row_H1 = np.floor(TILES * (y_H1 + phase_2[1])) % 2
    lightness = {
        "plain": np.full((height, width), 0.5),
        "rows": row_H1 + 0 * x_1W,
        "columns": column_1W + 0 * y_H1,
        "checks": (row_H1 + column_1W) % 2,
    }
    # 0.2 to 0.7: grey, and distinct from the bright colours of objects
    grey_HW = 0.2 + 0.5 * lightness[TEXTURES[texture]]
    return np.repeat(grey_HW[:, :, None], 3, axis=2)


def _draw(
    background: np.ndarray,
    shape: int,
    centre_2: np.ndarray,
    radius: float,
    colour: np.ndarray,
    brightness: float,
) -> np.ndarray:
    """Return the uint8 RGB image [H, W, 3] with the shape at `centre_2` (x, y)."""
    height, width = background.shape[:2]
    x_1W, y_H1 = _grid(height, width)
    # distances to the centre, wrapped around the frame's sides
    right_1W = (x_1W - centre_2[0] + 0.5) % 1.0 - 0.5
    down_H1 = (y_H1 - centre_2[1] + 0.5) % 1.0 - 0.5
    # the radius is in frame widths, so that the object is as large in any frame
    inside_HW = _inside(SHAPES[shape], right_1W / radius, down_H1 / radius)
    image = np.where(inside_HW[:, :, None], colour, background)
    return np.asarray((image * brightness * 255).round().astype(np.uint8))


def _inside(shape: str, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Return whether each point is in the shape, of radius about 1, at the origin: bool [H, W]."""
    width = np.abs(x_1W)
    height = np.abs(y_H1)
    inside = {
        "circle": x_1W**2 + y_H1**2 < 1,
        "square": np.maximum(width, height) < 0.85,
        "triangle": (height < 0.95) & (2 * width < y_H1 + 0.95),
        "cross": (np.minimum(width, height) < 0.3) & (np.maximum(width, height) < 1),
    }
    return np.asarray(inside[shape])
