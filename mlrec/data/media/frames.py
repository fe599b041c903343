"""Decode chosen frames of a video."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlrec.data.media.containers import (
    CLIP_FORMATS,
    MAX_FRAME_PIXELS,
    VIDEO_FORMATS,
    UnreadableError,
    open_media,
    video_stream,
)

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

MAX_FRAMES = 1_000_000
"""Largest number of frames of a video: nine hours at 30 frames a second."""
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
    with _open_video(source, stored) as (container, stream):
        index = _index(container, stream)
        if index is not None:
            positions = _positions(len(index), positions_of)
            frame_at = _seek_frames(container, stream, index, set(positions), _Scaler(size))
            if len(frame_at) == len(set(positions)):
                return np.stack([frame_at[position] for position in positions])
    # Some frames have no time, or some packets are not whole frames: seeking cannot count them.
    # Decode the whole video twice: first to count its frames, then to pick the chosen ones.
    with _open_video(source, stored) as (container, stream):
        length = _count(container.decode(stream))
    positions = _positions(length, positions_of)
    with _open_video(source, stored) as (container, stream):
        frame_at = _counted_frames(container.decode(stream), set(positions), _Scaler(size))
    return np.stack([frame_at[position] for position in positions])


@contextmanager
def _open_video(
    source: str | bytes, stored: int | None
) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    max_pixels = MAX_FRAME_PIXELS if stored is None else (stored + CODEC_PADDING) ** 2
    with open_media(
        source, "video", VIDEO_FORMATS if stored is None else CLIP_FORMATS, max_pixels
    ) as container:
        stream = video_stream(container, max_pixels)
        width, height = stream.codec_context.width, stream.codec_context.height
        if stored is not None and (width, height) != (stored, stored):
            raise UnreadableError(
                f"the clip is {width} x {height} pixels, the data set says {stored} x {stored}"
            )
        yield container, stream


def _count(frames: Iterable[av.VideoFrame]) -> int:
    count = 0
    for count, _ in enumerate(frames, start=1):
        if count > MAX_FRAMES:
            raise UnreadableError(f"the video has more than {MAX_FRAMES:,} frames")
    return count


class _Frame(NamedTuple):
    """One frame of the video according to the container."""

    time: int
    """Presentation time, in units of the stream's time base."""
    is_keyframe: bool


def _index(container: InputContainer, stream: av.VideoStream) -> list[_Frame] | None:
    """Return all frames that a player shows by time; None if times are missing or repeated."""
    frames = []
    for packet in container.demux(stream):
        # An empty packet marks the end of the stream; an edit list cuts off discarded frames.
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None:
            return None
        frames.append(_Frame(packet.pts, packet.is_keyframe))
        if len(frames) > MAX_FRAMES:
            raise UnreadableError(f"the video has more than {MAX_FRAMES:,} frames")
    # Packets come in decoding order, which differs from the order of display with B-frames.
    frames.sort()
    return frames if len({frame.time for frame in frames}) == len(frames) else None


def _positions(length: int, positions_of: Callable[[int], np.ndarray]) -> list[int]:
    if length == 0:
        raise UnreadableError("the video has no frames")
    return [int(position) for position in positions_of(length)]


def _seek_frames(
    container: InputContainer,
    stream: av.VideoStream,
    index: list[_Frame],
    positions: set[int],
    scaler: _Scaler,
) -> dict[int, np.ndarray]:
    """Return the scaled frames by position; some are missing if the index is wrong."""
    frame_at: dict[int, np.ndarray] = {}
    position_of = {frame.time: position for position, frame in enumerate(index)}
    keyframes = [position for position, frame in enumerate(index) if frame.is_keyframe]
    remaining = deque(sorted(positions))
    while remaining:
        start = _last_at_or_before(keyframes, remaining[0])
        container.seek(index[start].time, stream=stream)
        num_before = len(frame_at)
        for frame in container.decode(stream):
            position = -1 if frame.pts is None else position_of.get(frame.pts, -1)
            if position == remaining[0]:
                frame_at[remaining.popleft()] = scaler(frame)
            # Seek only if that skips frames: decoding reaches the next keyframe just as soon.
            if (
                not remaining
                or position > remaining[0]
                or _last_at_or_before(keyframes, remaining[0]) > max(start, position + 1)
            ):
                break
        # Without progress the index is wrong: leave the rest to the caller.
        if len(frame_at) == num_before:
            break
    return frame_at


def _last_at_or_before(keyframes: list[int], position: int) -> int:
    place = bisect_right(keyframes, position)
    return keyframes[place - 1] if place else 0


def _counted_frames(
    frames: Iterable[av.VideoFrame], positions: set[int], scaler: _Scaler
) -> dict[int, np.ndarray]:
    """Return the scaled frames by position, counting decoded frames up to the last wanted one."""
    last = max(positions)
    frame_at: dict[int, np.ndarray] = {}
    for position, frame in enumerate(frames):
        if position in positions:
            frame_at[position] = scaler(frame)
        if position == last:
            break
    return frame_at


_TURNS = {0: (), 90: ("2",), 180: ("1", "1"), 270: ("1",)}
"""Arguments of FFmpeg's transpose that undo a counterclockwise rotation in degrees."""


class _Scaler:
    """Filter that turns frames upright and scales them to a square.

    One filter graph serves all frames of the same size, pixel format and rotation.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._form: tuple[int, int, str, int] | None = None
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Return the frame as uint8 [size, size, 3]."""
        form = (frame.width, frame.height, frame.format.name, round(frame.rotation / 90) * 90 % 360)
        if self._graph is None or form != self._form:
            self._form = form
            self._graph = self._build(frame, _TURNS[form[3]])
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray())

    def _build(self, frame: av.VideoFrame, turns: Iterable[str]) -> av.filter.Graph:
        import av

        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            )
        ]
        nodes += [graph.add("transpose", turn) for turn in turns]
        nodes.append(graph.add("scale", f"{self._size}:{self._size}:flags=bilinear"))
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph
