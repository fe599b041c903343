"""Which frames stand for a video, and how they are taken out of it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np

FramePolicy = Callable[[int, int, int], np.ndarray]
"""(frames of the video, T, interval) to int64 positions [T]."""


def middle(length: int, frames: int, interval: int) -> np.ndarray:
    """T frames around the middle, `interval` apart; a short video repeats its ends (the paper's, with T = 5 and interval 1)."""
    first = length // 2 - (frames // 2) * interval
    return np.clip(first + interval * np.arange(frames), 0, length - 1)


def uniform(length: int, frames: int, interval: int) -> np.ndarray:
    """T frames spread over the whole video: the middles of T equal parts; `interval` has no meaning here."""
    del interval
    return ((np.arange(frames) + 0.5) * length / frames).astype(np.int64)


FRAME_POLICIES: dict[str, FramePolicy] = {"middle": middle, "uniform": uniform}


def decode_video(source: str | bytes, positions_of: Callable[[int], np.ndarray], size: int) -> np.ndarray:
    """Frames of a video as uint8 [T, size, size, 3], scaled without keeping the aspect ratio, as MicroLens does.

    Args:
        source: path, or the file's bytes.
        positions_of: the wanted positions, given the number of frames.

    Raises:
        ValueError: the video cannot be decoded; the message is decord's reason.
    """
    import decord

    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        reader = decord.VideoReader(opened, ctx=decord.cpu(0), width=size, height=size, num_threads=1)
        if len(reader) == 0:
            raise ValueError("the video has no frames")
        return np.asarray(reader.get_batch(positions_of(len(reader)).tolist()).asnumpy())
    except (RuntimeError, decord.DECORDError) as error:
        # decord opens its message with the time of day and a source path; the same fault must give the same words
        lines = [re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line) for line in str(error).splitlines() if line.strip()]
        raise ValueError(lines[0][:200] if lines else type(error).__name__) from error
