"""The frames of a video that are packed."""

from __future__ import annotations

import numpy as np

from mlrec.data.format import MediaInfo
from mlrec.data.media.frames import read_chosen
from mlrec.data.media.policies import FRAME_POLICIES, FrameRequest


def decode_chosen(content: bytes, media: MediaInfo, request: FrameRequest) -> np.ndarray:
    """Return the frames of a video that the policy chooses, uint8 RGB [T, size, size, 3].

    Raises:
        UnreadableError: the video cannot be decoded.
    """
    policy = FRAME_POLICIES[media.policy]
    return read_chosen(content, lambda video: policy(video, request), media.size)
