"""Small pictures of items, for pages and tables that people look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mlrec.config import DataConfig
from mlrec.data.format import DatasetInfo, read_catalogue, read_dataset_info
from mlrec.data.item_store import ItemStore
from mlrec.data.media.frames import decode_video
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media.policies import uniform
from mlrec.data.samples import BadItemError

SIDE_PX = 112
QUALITY = 78


class Strip(NamedTuple):
    """Frames of an item side by side, or its cover."""

    jpeg: bytes
    """A JPEG file."""
    frames: tuple[int, ...]
    """Number of each frame among the stored ones, from 1; empty for a cover."""
    num_frames: int
    """Number of frames that are stored of the item; 0 for a cover."""


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
        strip = self.strip(item, frames, side_px)
        return None if strip is None else strip.jpeg

    def strip(self, item: int, frames: int, side_px: int = SIDE_PX) -> Strip | None:
        """Return the same picture as `jpeg` with the numbers of its frames."""
        try:
            images, numbers, num_frames = self._images(item, frames)
        except (BadItemError, LookupError, OSError, ValueError, RuntimeError):
            return None
        joined = Image.new("RGB", (side_px * len(images), side_px))
        for place, image in enumerate(images):
            joined.paste(
                image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS),
                (place * side_px, 0),
            )
        sink = io.BytesIO()
        joined.save(sink, "JPEG", quality=QUALITY)
        return Strip(sink.getvalue(), numbers, num_frames)

    def row(self, items: Sequence[int], side_px: int = SIDE_PX) -> Image.Image:
        """Return the items' pictures side by side. An item that cannot be read is black."""
        row = Image.new("RGB", (side_px * len(items), side_px))
        for place, item in enumerate(items):
            if (jpeg := self.jpeg(item, side_px=side_px)) is not None:
                row.paste(Image.open(io.BytesIO(jpeg)), (place * side_px, 0))
        return row

    def _images(self, item: int, frames: int) -> _Images:
        media = self.media
        if media.kind == "clip":
            return _clip_images(self.store.read(item, ["mp4"])["mp4"], frames, media.size)
        if media.kind == "none":
            cover = self.store.read(item, ["cover.jpg"])["cover.jpg"]
            return _Images([Image.fromarray(decode_jpeg(cover, media.size))], (), 0)
        positions = uniform(media.frames, frames, 1).tolist()
        names = [f"{position}.jpg" for position in positions]
        members = self.store.read(item, names)
        images = [Image.fromarray(decode_jpeg(members[name], media.size)) for name in names]
        return _Images(images, _numbers(positions), media.frames)


class _Images(NamedTuple):
    """Images of an item with the numbers of their frames, as in `Strip`."""

    images: list[Image.Image]
    frames: tuple[int, ...]
    num_frames: int


def _clip_images(clip: bytes, frames: int, size: int) -> _Images:
    """Return evenly spread frames of a clip, whatever frames its policy would choose."""
    positions = np.empty(0, dtype=np.int64)
    num_frames = 0

    def choose(length: int) -> np.ndarray:
        nonlocal positions, num_frames
        # a clip of fewer frames shows each of them once
        positions = uniform(length, min(frames, length), 1)
        num_frames = length
        return positions

    decoded = decode_video(clip, choose, size, size)
    return _Images(list(map(Image.fromarray, decoded)), _numbers(positions.tolist()), num_frames)


def _numbers(positions: Sequence[int]) -> tuple[int, ...]:
    return tuple(position + 1 for position in positions)


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
