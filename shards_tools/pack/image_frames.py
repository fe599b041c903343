"""Frames of an item that are images already, as MicroLens publishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlrec.data.format import MediaInfo
from mlrec.data.media.policies import FRAME_POLICIES, FrameRequest
from mlrec.runtime.time_limit import time_limit
from shards_tools.pack.media import decode_image
from shards_tools.pack.raw_files import MediaError
from shards_tools.raw.media.raw_file import RawFile


@dataclass(frozen=True)
class ImageSource:
    """Images as a frame policy sees them."""

    files: Sequence[RawFile]
    """Images in the order of time."""
    read_file: Callable[[RawFile], bytes]
    """Returns the content of a file; raises MediaError."""

    @property
    def length(self) -> int:
        """Number of images."""
        return len(self.files)

    def read(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Return the images at int64 positions [n] as uint8 RGB [n, size, size, 3].

        Raises:
            MediaError: an image cannot be read.
        """
        image_of_position: dict[int, np.ndarray] = {}
        for position in positions.tolist():
            # policies repeat images where an item has too few
            if position not in image_of_position:
                image_of_position[position] = self._decode(position, size)
        return np.stack([image_of_position[position] for position in positions.tolist()])

    def _decode(self, position: int, size: int) -> np.ndarray:
        try:
            content = self.read_file(self.files[position])
            with time_limit(len(content)):
                return decode_image(content, size)
        except MediaError as error:
            raise MediaError(f"frame {position + 1} of {self.length}: {error}") from error


def choose_images(source: ImageSource, media: MediaInfo, request: FrameRequest) -> np.ndarray:
    """Return the images that the policy chooses, uint8 RGB [T, size, size, 3].

    Raises:
        MediaError: an image cannot be read.
    """
    positions = FRAME_POLICIES[media.policy](source, request)
    return source.read(positions, media.size)
