"""Decode chosen frames of a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlrec.data.media.containers import (
    CLIP_FORMATS,
    MAX_FRAME_PIXELS,
    VIDEO_FORMATS,
    UnreadableError,
    decoded_frames,
    fixed_reasons,
    open_container,
    video_stream,
)
from mlrec.data.media.index import MAX_FRAMES, FrameIndex, Keyframe, read_index
from mlrec.data.media.scaling import Scaler

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

CODEC_PADDING = 64
"""Pixels by which a codec rounds the sides of a frame up."""


def decode_video(
    source: str | bytes,
    positions_of: Callable[[int], np.ndarray],
    size: int,
    stored: int | None = None,
) -> np.ndarray:
    """Return frames of a video as uint8 [T, size, size, 3].

    As in MicroLens, scaling does not keep the aspect ratio. Frames are counted in the order in
    which a player shows them.

    Args:
        source: path, or the file's bytes.
        positions_of: the wanted positions, given the number of frames.
        stored: height and width (pixels) that the data set declares for its clips, compared before
            decoding; None for raw videos.

    Raises:
        UnreadableError: the video cannot be decoded; the reason is the same on every run.
    """
    return read_chosen(source, lambda video: positions_of(video.length), size, stored)


def read_chosen(
    source: str | bytes,
    choose: Callable[[Video], np.ndarray],
    size: int,
    stored: int | None = None,
) -> np.ndarray:
    """Return the frames that `choose` selects, like `decode_video`.

    Args:
        choose: returns positions. It may read the video first, and is called a second time if
            that or the decoding of its frames shows that the number of frames was wrong.

    Raises:
        UnreadableError: the video cannot be decoded; the reason is the same on every run.
    """
    with closing(Video(source, stored)) as video:
        try:
            return video.read(choose(video), size)
        except _WrongIndexError:
            video.distrust_index()
            return video.read(choose(video), size)


class _WrongIndexError(Exception):
    """Decoding gave other frames than the packets announce."""


class Video:
    """Frames of a video, counted in the order in which a player shows them."""

    def __init__(self, source: str | bytes, stored: int | None = None) -> None:
        """Take a video as `decode_video` does; it is opened when it is needed."""
        self._source = source
        self._stored = stored
        self._opened: _Opened | None = None

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._opened is not None:
            self._opened.container.close()
            self._opened = None

    @cached_property
    def _index(self) -> FrameIndex | None:
        with fixed_reasons("video"):
            return read_index(*self._open())

    @cached_property
    def length(self) -> int:
        """Number of frames, 1 or more.

        Raises:
            UnreadableError: the video cannot be decoded, or has no frames.
        """
        if self._index is not None:
            return len(self._index)
        # Some frames have no time, or some packets are not whole frames: decode all to count them.
        with fixed_reasons("video"):
            length = _count(decoded_frames(*self._open()))
        if length == 0:
            raise UnreadableError("the video has no frames")
        return length

    def read(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Return the frames at int64 positions [n] as uint8 RGB [n, size, size, 3].

        Raises:
            UnreadableError: the video cannot be decoded.
        """
        scaler = Scaler(size)
        wanted = sorted({int(position) for position in positions})
        with fixed_reasons("video"):
            if self._index is None:
                frames = decoded_frames(*self._open())
                frame_at = _counted_frames(frames, wanted, scaler)
            else:
                # still open at the end of the index, from where it can seek
                opened = self._opened or self._open()
                frame_at = _seek_frames(opened, self._index, wanted, scaler)
        return np.stack([frame_at[int(position)] for position in positions])

    def distrust_index(self) -> None:
        """Count frames by decoding from now on."""
        self._index = None
        self.__dict__.pop("length", None)

    def _open(self) -> _Opened:
        """Return the file, opened at its start."""
        self.close()
        stored = self._stored
        max_pixels = MAX_FRAME_PIXELS if stored is None else (stored + CODEC_PADDING) ** 2
        formats = VIDEO_FORMATS if stored is None else CLIP_FORMATS
        container = open_container(self._source, "video", formats, max_pixels)
        self._opened = _Opened(container, video_stream(container, max_pixels))
        context = self._opened.stream.codec_context
        if stored is not None and (context.width, context.height) != (stored, stored):
            raise UnreadableError(
                f"the clip is {context.width} x {context.height} pixels, "
                f"the data set says {stored} x {stored}"
            )
        return self._opened


class _Opened(NamedTuple):
    """An open video file."""

    container: InputContainer
    stream: av.VideoStream


def _count(frames: Iterable[av.VideoFrame]) -> int:
    count = 0
    for count, _ in enumerate(frames, start=1):
        if count > MAX_FRAMES:
            raise UnreadableError(f"the video has more than {MAX_FRAMES:,} frames")
    return count


def _counted_frames(
    frames: Iterable[av.VideoFrame], wanted: list[int], scaler: Scaler
) -> dict[int, np.ndarray]:
    """Return the scaled frames by position, counting decoded frames up to the last wanted one.

    Raises:
        UnreadableError: a wanted frame is damaged.
    """
    remaining = deque(wanted)
    frame_at: dict[int, np.ndarray] = {}
    is_damaged = False
    for position, frame in enumerate(frames):
        # Frames after a damaged one are predicted from it, up to the next keyframe. Their pixels
        # may differ from run to run, because decoders leave parts of them as they were in memory.
        is_damaged = frame.is_corrupt or (is_damaged and not frame.key_frame)
        if position == remaining[0]:
            if is_damaged:
                raise UnreadableError("the video stream is damaged")
            frame_at[remaining.popleft()] = scaler(frame)
        if not remaining:
            break
    return frame_at


def _seek_frames(
    opened: _Opened, index: FrameIndex, wanted: list[int], scaler: Scaler
) -> dict[int, np.ndarray]:
    """Return the scaled frames by position, decoding only from the keyframes before them.

    Raises:
        _WrongIndexError: the index has other frames than the video.
    """
    frame_at: dict[int, np.ndarray] = {}
    remaining = deque(wanted)
    while remaining:
        start, keyframe = index.start_before(remaining[0])
        num_before = len(frame_at)
        for position, frame in _frames_from(opened, index, start, keyframe):
            if position == remaining[0]:
                frame_at[remaining.popleft()] = scaler(frame)
            # Seek only if that skips frames: decoding reaches the next keyframe just as soon.
            if not remaining or index.start_before(remaining[0])[0] > position + 1:
                break
        if len(frame_at) == num_before:
            raise _WrongIndexError
    return frame_at


def _frames_from(
    opened: _Opened, index: FrameIndex, start: int, keyframe: Keyframe
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the frames from a keyframe on, with their positions, which begin at `start`.

    Raises:
        _WrongIndexError: a frame is missing, damaged, or not in the index.
    """
    container, stream = opened
    container.seek(keyframe.seek_time, stream=stream)
    expected = start
    is_at_keyframe = False
    for packet in container.demux(stream):
        # demuxers seek to somewhere before the keyframe
        is_at_keyframe = is_at_keyframe or packet.pts == keyframe.time
        if not is_at_keyframe:
            continue
        for frame in packet.decode():
            if frame.pts is None or frame.is_corrupt:
                raise _WrongIndexError
            # leading pictures of an open GOP, which are decoded from the keyframe before
            if frame.pts < keyframe.time:
                continue
            # Frames in another order have wrong times. A gap is a packet that is not a frame.
            if index.position_of.get(frame.pts) != expected:
                raise _WrongIndexError
            yield expected, frame
            expected += 1
