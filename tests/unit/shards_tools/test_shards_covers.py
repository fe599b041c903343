"""Covers as a viewer shows them: upright, with their own colors, on white."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from mlrec.data.media.jpeg import decode_jpeg
from shards_tools.pack.media import MediaError, cover_jpeg


def cover_pixels(image: Image.Image, kind: str, **options: object) -> np.ndarray:
    """Return the cover packed from an image that was saved with `options`, [8, 8, 3]."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return decode_jpeg(cover_jpeg(sink.getvalue(), 8, 95), 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "red"),
    [
        (1, np.s_[:4, :4]),
        (2, np.s_[:4, 4:]),
        (3, np.s_[4:, 4:]),
        (4, np.s_[4:, :4]),
        (5, np.s_[:4, :4]),
        (6, np.s_[:4, 4:]),
        (7, np.s_[4:, 4:]),
        (8, np.s_[4:, :4]),
    ],
)
def test_cover_jpeg_exif_orientation_is_turned_upright(
    kind: str, orientation: int, red: tuple[slice, ...]
) -> None:
    # As stored, the upper left quarter is red.
    stored = np.full((32, 64, 3), 240, dtype=np.uint8)
    stored[:16, :32] = (220, 30, 30)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = cover_pixels(Image.fromarray(stored), kind, exif=exif)
    is_red = pixels[:, :, 1] < 130
    assert is_red[red].all() and is_red.sum() == 16


def test_cover_jpeg_damaged_exif_is_packed_as_stored() -> None:
    pixels = cover_pixels(Image.new("RGB", (16, 16), "green"), "JPEG", exif=b"Exif\0\0damaged")
    assert pixels.reshape(-1, 3).mean(axis=0) == pytest.approx([0, 128, 0], abs=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_cover_jpeg_16_bit_gray_keeps_its_lightness(kind: str) -> None:
    gray = np.full((16, 16), 0x4000, dtype=np.uint16)
    gray[:, 8:] = 0xC000
    pixels = cover_pixels(Image.fromarray(gray), kind)
    assert pixels[:, :4].mean() == pytest.approx(0x40, abs=4)
    assert pixels[:, 4:].mean() == pytest.approx(0xC0, abs=4)


def test_cover_jpeg_16_bit_gray_with_transparent_value_is_on_white() -> None:
    gray = np.full((16, 16), 0x0800, dtype=np.uint16)
    gray[:, 8:] = 0xC000
    pixels = cover_pixels(Image.fromarray(gray), "PNG", transparency=0x0800)
    assert pixels[:, :4].mean() == pytest.approx(255, abs=4)
    assert pixels[:, 4:].mean() == pytest.approx(0xC0, abs=4)


def test_cover_jpeg_32_bit_gray_has_a_reason() -> None:
    with pytest.raises(MediaError, match="gray values of 32 bits, whose range is not known"):
        cover_pixels(Image.fromarray(np.full((16, 16), 0.5, dtype=np.float32)), "TIFF")


@pytest.mark.parametrize(
    ("image", "kind", "options", "color"),
    [
        (Image.new("RGBA", (16, 16), (255, 0, 0, 0)), "PNG", {}, (255, 255, 255)),
        (Image.new("RGBA", (16, 16), (255, 0, 0, 128)), "PNG", {}, (255, 127, 127)),
        (Image.new("LA", (16, 16), (0, 0)), "PNG", {}, (255, 255, 255)),
        (Image.new("P", (16, 16)), "GIF", {"transparency": 0}, (255, 255, 255)),
        (Image.new("P", (16, 16)), "PNG", {"transparency": 0}, (255, 255, 255)),
        (Image.new("L", (16, 16), 100), "PNG", {"transparency": 100}, (255, 255, 255)),
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", {}, (255, 0, 0)),
        (Image.new("1", (16, 16), 1), "PNG", {}, (255, 255, 255)),
    ],
    ids=["rgba", "half", "la", "gif", "palette", "gray", "cmyk", "bits"],
)
def test_cover_jpeg_colors_are_those_of_a_viewer(
    image: Image.Image, kind: str, options: dict[str, object], color: tuple[int, int, int]
) -> None:
    pixels = cover_pixels(image, kind, **options)
    assert pixels.reshape(-1, 3).mean(axis=0) == pytest.approx(color, abs=3)


def test_cover_jpeg_animation_shows_its_first_frame() -> None:
    first = Image.new("RGB", (16, 16), "red")
    second = Image.new("RGB", (16, 16), "blue")
    pixels = cover_pixels(first, "GIF", save_all=True, append_images=[second])
    assert pixels.reshape(-1, 3).mean(axis=0) == pytest.approx([255, 0, 0], abs=3)
