"""Frames of a video by presentation time, read from its packets without decoding them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlrec.data.media.containers import UnreadableError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

MAX_FRAMES = 1_000_000
"""Largest number of frames of a video: nine hours at 30 frames a second."""
VP8_SHOWN_BIT = 0x10
"""Bit in the first byte of a VP8 packet; without it, other frames are only predicted from it."""


class Keyframe(NamedTuple):
    """A frame that decoding can start at."""

    time: int
    """Presentation time, in units of the stream's time base."""
    seek_time: int
    """Time to seek to, which is at or before those of presentation and decoding."""


class FrameIndex:
    """Frames that a player shows, in the order in which it shows them."""

    def __init__(self, times: Sequence[int], keyframes: Sequence[Keyframe]) -> None:
        """Take presentation times of frames, and keyframes, which may themselves be cut off."""
        # packets come in decoding order, which differs from the order of display with B-frames
        times = sorted(times)
        self.position_of = {time: position for position, time in enumerate(times)}
        """Positions by presentation time."""
        self._keyframes = sorted(keyframes)
        self._starts = [bisect_left(times, keyframe.time) for keyframe in self._keyframes]

    def __len__(self) -> int:
        return len(self.position_of)

    def start_before(self, position: int) -> tuple[int, Keyframe]:
        """Return the last keyframe at or before a frame, and the position it starts at."""
        place = bisect_right(self._starts, position) - 1
        return self._starts[place], self._keyframes[place]


def read_index(container: InputContainer, stream: av.VideoStream) -> FrameIndex | None:
    """Return the frames of a video, or None if only decoding can tell them.

    Raises:
        UnreadableError: the video has more than MAX_FRAMES frames.
    """
    # AVI holds no presentation times. FFmpeg numbers its packets in the order of decoding.
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return None
    times: list[int] = []
    keyframes: list[Keyframe] = []
    last_decoding_time: int | None = None
    for packet in container.demux(stream):
        # an empty packet repeats the frame before it, or marks the end of the stream
        if packet.size == 0 or _is_hidden(packet, stream):
            continue
        # the last packet of a file that ends early is incomplete
        if packet.pts is None or packet.is_corrupt:
            return None
        decoding_time = packet.pts if packet.dts is None else packet.dts
        # joined recordings start again at an earlier time
        if last_decoding_time is not None and decoding_time <= last_decoding_time:
            return None
        last_decoding_time = packet.dts
        if packet.is_keyframe:
            keyframes.append(Keyframe(packet.pts, min(packet.pts, decoding_time)))
        # an edit list cuts off frames that decoding still needs
        if packet.is_discard:
            continue
        # a recording that was cut starts with frames that need earlier ones
        if not keyframes or packet.pts < keyframes[0].time:
            return None
        times.append(packet.pts)
        if len(times) > MAX_FRAMES:
            raise UnreadableError(f"the video has more than {MAX_FRAMES:,} frames")
    index = FrameIndex(times, keyframes)
    # None if several frames have one time: a player may show both
    return index if len(index) == len(times) > 0 else None


def _is_hidden(packet: av.Packet[av.VideoStream], stream: av.VideoStream) -> bool:
    is_vp8 = stream.codec_context.name == "vp8"
    return is_vp8 and not memoryview(packet)[0] & VP8_SHOWN_BIT
