"""Pictures and titles of the recommendations in recommended.json, for W&B and TensorBoard."""

from __future__ import annotations

import logging

from PIL import Image, ImageDraw

from mlrec.config import Config
from mlrec.data.pictures import Pictures, open_pictures
from mlrec.runs.recommendations import Recommended
from mlrec.runtime.redact import scrub

HIT_COLOR = "#16955f"

_log = logging.getLogger(__name__)


def open_example_pictures(config: Config) -> Pictures | None:
    """Return the pictures of the data set; None if it has none or cannot be read."""
    try:
        pictures = open_pictures(config.data)
    except (ValueError, OSError, RuntimeError) as error:
        _log.warning("The tracked recommendations have titles only: %s", scrub(str(error)))
        return None
    return pictures if pictures.has_any else None


def picture_row(
    pictures: Pictures | None, items: tuple[int, ...], marked: int = 0
) -> Image.Image | None:
    """Return the pictures of items side by side, with a frame around one; None without pictures."""
    if pictures is None or not items:
        return None
    image = pictures.row(items)
    if marked in items:
        _frame(image, items.index(marked))
    return image


def _frame(image: Image.Image, place: int) -> None:
    """Draw a frame around one picture of a row of square ones."""
    side = image.height
    box = (place * side, 0, place * side + side - 1, side - 1)
    ImageDraw.Draw(image).rectangle(box, outline=HIT_COLOR, width=max(2, side // 20))


def numbered_titles(recommended: Recommended, items: tuple[int, ...]) -> str:
    """Return the titles of items in numbered lines."""
    lines = []
    for place, item in enumerate(items, start=1):
        lines.append(f"{place}. {recommended.titles.get(item, '')}")
    return "\n".join(lines)
