"""The index of a video's frames: when it is used, and what happens when it is wrong."""

from __future__ import annotations

import io
import random
import re

import av
import numpy as np
import pytest

from mlrec.data.media import frames as frames_module
from mlrec.data.media.containers import VIDEO_FORMATS, UnreadableError, open_media, video_stream
from mlrec.data.media.frames import decode_video, read_chosen
from mlrec.data.media.index import FrameIndex, Keyframe, read_index
from mlrec.data.media.policies import uniform

SIDE = 64
NUM_FRAMES = 40
STEP = 6
"""Difference in lightness between a frame and the next."""


def encode(kind: str, codec: str, bframes: int = 2) -> bytes:
    """Return a video in which each frame is lighter than the one before."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=kind) as target:
        stream = target.add_stream(codec, rate=25)
        stream.width, stream.height = SIDE, SIDE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = 10
        stream.codec_context.max_b_frames = bframes
        stream.options = {"crf": "4"} if codec == "libx264" else {"q:v": "2"}
        for number in range(NUM_FRAMES):
            image = np.full((SIDE, SIDE, 3), STEP * number, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return sink.getvalue()


def index_of(video: bytes) -> FrameIndex | None:
    with open_media(video, "video", VIDEO_FORMATS) as container:
        return read_index(container, video_stream(container))


def numbers(video: bytes) -> list[int]:
    """Return the numbers of the frames that a video shows."""
    lightness = decode_video(video, np.arange, 8).mean(axis=(1, 2, 3))
    return [round(value / STEP) for value in lightness.tolist()]


def test_frame_index_starts_at_keyframes_in_front_of_the_cut() -> None:
    # an edit list cuts off the frames before time 20, but not the keyframe that they need
    index = FrameIndex([30, 20, 40, 50], [Keyframe(0, -10), Keyframe(40, 30)])
    assert len(index) == 4
    assert index.position_of == {20: 0, 30: 1, 40: 2, 50: 3}
    assert index.start_before(1) == (0, Keyframe(0, -10))
    assert index.start_before(2) == (2, Keyframe(40, 30))


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("matroska", "mpeg4"), ("mpegts", "mpeg2video"), ("matroska", "libx264")],
)
def test_read_index_whole_video_has_all_frames(kind: str, codec: str) -> None:
    video = encode(kind, codec)
    index = index_of(video)
    assert index is not None and len(index) == NUM_FRAMES
    assert numbers(video) == list(range(NUM_FRAMES))


def test_read_index_avi_with_b_frames_is_none() -> None:
    video = encode("avi", "libx264")
    assert index_of(video) is None
    assert numbers(video) == list(range(NUM_FRAMES))
    assert index_of(encode("avi", "libx264", bframes=0)) is not None


def test_read_index_recording_that_starts_inside_a_gop_is_none() -> None:
    video = encode("mpegts", "mpeg2video")
    cut = video[len(video) // 2 // 188 * 188 :]
    assert index_of(cut) is None
    shown = numbers(cut)
    assert shown == list(range(shown[0], NUM_FRAMES)) and shown[0] >= 10


def test_read_index_joined_recordings_is_none() -> None:
    video = encode("mpegts", "mpeg2video") * 2
    assert index_of(video) is None
    assert numbers(video) == [*range(NUM_FRAMES), *range(NUM_FRAMES)]


def test_read_chosen_wrong_index_chooses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_frame(container: object, stream: object) -> FrameIndex:
        times = sorted(index.position_of)
        return FrameIndex([*times[:23], *times[24:]], [index.start_before(0)[1]])

    video = encode("mp4", "libx264")
    index = index_of(video)
    assert index is not None
    monkeypatch.setattr(frames_module, "read_index", without_a_frame)
    lengths: list[int] = []

    def choose(video: frames_module.Video) -> np.ndarray:
        lengths.append(video.length)
        return uniform(video.length, 3, 1)

    frames = read_chosen(video, choose, 8)
    assert lengths == [NUM_FRAMES - 1, NUM_FRAMES]
    lightness = frames.mean(axis=(1, 2, 3)) / STEP
    assert lightness == pytest.approx(uniform(NUM_FRAMES, 3, 1), abs=0.5)


def test_decode_video_unknown_codec_has_a_reason() -> None:
    video = encode("mp4", "libx264").replace(b"avc1", b"xxxx")
    with pytest.raises(UnreadableError, match="the codec of the video stream is not supported"):
        numbers(video)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("mpegts", "mpeg2video"), ("avi", "mpeg4"), ("matroska", "libx264")],
)
def test_decode_video_damaged_twice_has_one_outcome(kind: str, codec: str) -> None:
    video = encode(kind, codec)
    reasons = set()
    for seed in range(20):
        generator = random.Random(seed)
        damaged = bytearray(video)
        for _ in range(generator.choice([3, 30, 300])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        outcomes = []
        for _ in range(2):
            try:
                outcomes.append(decode_video(bytes(damaged), np.arange, 8).tobytes())
            except UnreadableError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], str):
            reasons.add(outcomes[0])
    # no addresses, times or paths
    assert all(re.fullmatch(r"[a-z ,]+", reason) for reason in reasons)
