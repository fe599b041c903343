"""Decode the JPEG frames and covers of a data set, whose size it declares."""

from __future__ import annotations

import numpy as np
import simplejpeg
from PIL import Image

JPEG_BYTES_PER_PIXEL = 8
"""Most bytes of a JPEG per pixel; the finest quality takes 3."""
JPEG_SLACK_BYTES = 1 << 20
"""Additional bytes of a JPEG for comments and profiles."""


def decode_jpeg(
    raw: bytes, stored: int, size: int | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Return a JPEG of stored x stored pixels as uint8 [size, size, 3], scaled if necessary.

    Args:
        stored: height and width that the data set declares, compared with the header before
            anything is allocated.
        size: height and width of the result; as stored by default.
        out: where to write the result.

    Raises:
        ValueError: it has another size, or cannot be decoded.
    """
    size = stored if size is None else size
    check_jpeg(raw, stored)
    out = np.empty((size, size, 3), dtype=np.uint8) if out is None else out
    # The fast variants of libjpeg-turbo give slightly other pixels. These are equal to PIL's, so
    # features do not depend on which library decoded an image.
    settings = {"colorspace": "RGB", "fastdct": False, "fastupsample": False}
    if size == stored:
        simplejpeg.decode_jpeg(raw, buffer=out, **settings)
    else:
        image = simplejpeg.decode_jpeg(raw, **settings)
        out[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return out


def check_jpeg(raw: bytes, stored: int) -> None:
    """Check the size and the header of a JPEG of stored x stored pixels.

    Raises:
        ValueError: it has another size, or no header.
    """
    # Bounded because a progressive JPEG takes time in proportion to its bytes times its pixels.
    limit = JPEG_SLACK_BYTES + JPEG_BYTES_PER_PIXEL * stored**2
    if len(raw) > limit:
        raise ValueError(
            f"the image takes {len(raw):,} bytes, "
            f"more than the {limit:,} that are decoded at this size"
        )
    # The decoder allocates what the header announces: a few bytes may claim 65,535 x 65,535 pixels.
    height, width, *_ = simplejpeg.decode_jpeg_header(raw)
    if (height, width) != (stored, stored):
        raise ValueError(
            f"the image is {width} x {height} pixels, the data set says {stored} x {stored}"
        )
