"""Video, cover and title of a made-up item: all of its factors show in the video, two of them, noised, in cover and title."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from shards_tools.pack.media import encode_h264, encode_jpeg

SHAPES = ("circle", "square", "triangle", "cross")
TEXTURES = ("plain", "rows", "columns", "checks")

VIDEO_SIZES = ((96, 160), (160, 96), (120, 160), (128, 128), (160, 112))
"""Height and width in pixels."""
FRAME_RATES = (12, 15, 24, 25, 30)
DURATION_S = (1.0, 1.5)
SPEED = (0.8, 1.2)
"""Frame widths per second. Within 5 neighbouring frames of 30 per second the object moves 0.1, between 5 frames
spread over the whole video under half a frame, so that the direction shows under both frame policies."""
RADIUS = (0.26, 0.33)
"""Of the object, in frame widths."""
CENTRE = (0.35, 0.65)
TILES = 4
"""Stripes across the frame; coarse, so that they show at 32 x 32 pixels."""
CRF = 23
COVER_SIZE = (144, 192)
COVER_HUE_NOISE = 0.5
"""Standard deviation in radians."""
COVER_QUALITY = 90

TITLE_COLOUR_ACCURACY = 0.6
TITLE_SHAPE_ACCURACY = 0.4
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
"""Words for equal arcs of the hue circle, the first around 0."""
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
    """Radians."""
    shape: int
    """Index in SHAPES."""
    texture: int
    """Index in TEXTURES."""
    direction: float
    """Of the motion; radians, 0 is to the right, growing clockwise."""


def video_bytes(look: Look, rng: np.random.Generator) -> bytes:
    """An MP4 with the object moving over its background; it leaves at one side and comes back at the other.

    Half-way it is near the centre, so that the middle frames show it whole.
    """
    height, width = VIDEO_SIZES[rng.integers(len(VIDEO_SIZES))]
    rate = FRAME_RATES[rng.integers(len(FRAME_RATES))]
    length = round(rng.uniform(*DURATION_S) * rate)
    radius, brightness = rng.uniform(*RADIUS), rng.uniform(0.85, 1.0)
    background = _background(look.texture, height, width, phase_2=rng.uniform(size=2))
    colour = _rgb(look.hue)
    step_2 = np.array([np.cos(look.direction), np.sin(look.direction)]) * rng.uniform(*SPEED) / rate
    centre_2 = rng.uniform(*CENTRE, size=2)
    images = (
        _draw(
            background,
            look.shape,
            centre_2 + (index - length / 2) * step_2,
            radius,
            colour,
            brightness,
        )
        for index in range(length)
    )
    return encode_h264(images, rate, gop=rate, crf=CRF)


def cover_bytes(look: Look, rng: np.random.Generator) -> bytes:
    """A JPEG with the shape in nearly its colour at rest on a plain background."""
    background = _background(TEXTURES.index("plain"), *COVER_SIZE, phase_2=np.zeros(2))
    colour = _rgb(look.hue + COVER_HUE_NOISE * rng.standard_normal())
    image = _draw(background, look.shape, rng.uniform(*CENTRE, size=2), 0.3, colour, 1.0)
    return encode_jpeg(image, COVER_QUALITY)


def title(look: Look, rng: np.random.Generator) -> str:
    """A title that names colour and shape, often wrongly."""
    colour = round(look.hue / (2 * np.pi) * len(COLOURS)) % len(COLOURS)
    if rng.uniform() > TITLE_COLOUR_ACCURACY:
        colour = int(rng.integers(len(COLOURS)))
    shape = look.shape if rng.uniform() < TITLE_SHAPE_ACCURACY else int(rng.integers(len(SHAPES)))
    first, second = rng.choice(len(TAGS), size=2, replace=False)
    opening = OPENINGS[rng.integers(len(OPENINGS))]
    return f"{opening} {COLOURS[colour]} {NOUNS[SHAPES[shape]]} # {TAGS[first]} # {TAGS[second]}"


def _rgb(hue: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue / (2 * np.pi) % 1.0, 0.95, 0.95))


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x [1, W] and y [H, 1] of the pixels' centres in frame widths and heights, so that scaling to a square keeps shapes."""
    return (np.arange(width)[None, :] + 0.5) / width, (np.arange(height)[:, None] + 0.5) / height


def _background(texture: int, height: int, width: int, phase_2: np.ndarray) -> np.ndarray:
    """Float RGB [H, W, 3] in 0 ... 1, grey."""
    x, y = _grid(height, width)
    column, row = (
        np.floor(TILES * (part + phase)) % 2 for part, phase in zip((x, y), phase_2, strict=True)
    )
    even = np.full((height, width), 0.5)
    light = {
        "plain": even,
        "rows": row + 0 * x,
        "columns": column + 0 * y,
        "checks": (row + column) % 2,
    }[TEXTURES[texture]]
    return np.repeat((0.2 + 0.5 * light)[:, :, None], 3, axis=2)


def _draw(
    background: np.ndarray,
    shape: int,
    centre_2: np.ndarray,
    radius: float,
    colour: np.ndarray,
    brightness: float,
) -> np.ndarray:
    """The uint8 RGB image [H, W, 3] with the shape at `centre_2` (x, y), wrapped around the frame's sides."""
    x, y = (
        (part - at + 0.5) % 1.0 - 0.5
        for part, at in zip(_grid(*background.shape[:2]), centre_2, strict=True)
    )
    inside = _inside(SHAPES[shape], x / radius, y / radius)
    image = np.where(inside[:, :, None], colour, background)
    return np.asarray((image * brightness * 255).round().astype(np.uint8))


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a point lies in the shape of about radius 1 around the origin; bool [H, W]."""
    width, height = np.abs(x), np.abs(y)
    inside = {
        "circle": x**2 + y**2 < 1,
        "square": np.maximum(width, height) < 0.85,
        "triangle": (height < 0.95) & (2 * width < y + 0.95),
        "cross": (np.minimum(width, height) < 0.3) & (np.maximum(width, height) < 1),
    }
    return np.asarray(inside[shape])
