"""The frames of a video that are packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlrec.data.format import MediaInfo
from mlrec.data.media.frames import decode_video
from mlrec.data.media.policies import FRAME_POLICIES, FrameRequest


@dataclass(frozen=True)
class VideoSource:
    """A video as a frame policy sees it."""

    content: bytes
    length: int
    """Number of frames."""

    def read(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Return the frames at int64 positions [n] as uint8 RGB [n, size, size, 3].

        Raises:
            UnreadableError: the video cannot be decoded.
        """
        return decode_video(self.content, lambda length: positions, size)


def decode_chosen(content: bytes, media: MediaInfo, request: FrameRequest) -> np.ndarray:
    """Return the frames of a video that the policy chooses, uint8 RGB [T, size, size, 3].

    Raises:
        UnreadableError: the video cannot be decoded.
    """
    policy = FRAME_POLICIES[media.policy]
    return decode_video(
        content, lambda length: policy(VideoSource(content, length), request), media.size
    )
