"""Small pictures of items, for pages and tables that people look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mlrec.config import DataConfig
from mlrec.data.decoders import decode_clip
from mlrec.data.format import DatasetInfo, read_catalogue, read_dataset_info
from mlrec.data.item_store import ItemStore
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.samples import BadItemError

SIDE_PX = 112
QUALITY = 78


class Pictures:
    """Pictures of the items of a data set."""

    def __init__(self, store: ItemStore, info: DatasetInfo) -> None:
        self.store = store
        self.media = info.media
        self.fingerprint = info.fingerprint

    @property
    def has_any(self) -> bool:
        """Whether the data set holds anything to look at."""
        return self.media.kind != "none" or self.media.has_cover

    def jpeg(self, item: int, frames: int = 1, side_px: int = SIDE_PX) -> bytes | None:
        """Return evenly spread frames of an item side by side in one JPEG file, or its cover.

        Returns:
            None if the item cannot be read.
        """
        try:
            images = self._images(item, frames)
        except (BadItemError, LookupError, OSError, ValueError, RuntimeError):
            return None
        strip = Image.new("RGB", (side_px * len(images), side_px))
        for place, image in enumerate(images):
            strip.paste(
                image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS),
                (place * side_px, 0),
            )
        sink = io.BytesIO()
        strip.save(sink, "JPEG", quality=QUALITY)
        return sink.getvalue()

    def row(self, items: Sequence[int], side_px: int = SIDE_PX) -> Image.Image:
        """Return the items' pictures side by side. An item that cannot be read is black."""
        row = Image.new("RGB", (side_px * len(items), side_px))
        for place, item in enumerate(items):
            if (jpeg := self.jpeg(item, side_px=side_px)) is not None:
                row.paste(Image.open(io.BytesIO(jpeg)), (place * side_px, 0))
        return row

    def _images(self, item: int, frames: int) -> list[Image.Image]:
        media = self.media
        if media.kind == "clip":
            clip = self.store.read(item, ["mp4"])["mp4"]
            return list(map(Image.fromarray, decode_clip(clip, media, frames, media.size)))
        if media.kind == "frames":
            middles = (np.arange(frames) + 0.5) * media.frames / frames
            names = [f"{int(middle)}.jpg" for middle in middles]
        else:
            names = ["cover.jpg"]
        members = self.store.read(item, names)
        return [Image.fromarray(decode_jpeg(members[name], media.size)) for name in names]


def open_pictures(config: DataConfig) -> Pictures:
    """Open the pictures of the data set at data.url.

    A picture takes one ranged read if its shard is not on this node.

    Raises:
        ValueError: there is no data set, or not one that this version reads.
        OSError, RuntimeError: the storage cannot be reached.
    """
    info = read_dataset_info(config.url)
    catalogue = read_catalogue(config.url, info)
    return Pictures(
        ItemStore(config.url, info, catalogue, Path(config.cache_dir), config.cache_bytes), info
    )
