"""Clips that mlrec wrote, read by mlrec and by decord: the same frames, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from mlrec.data.decoders import decode_clip
from mlrec.data.format import MediaInfo
from mlrec.data.media.frames import decode_video
from mlrec.data.media.policies import COUNT_POLICIES
from shards_tools.pack.media import CLIP_CRF, CLIP_GOP, encode_h264, transcode_clip

decord = pytest.importorskip("decord", reason="decord has no package for this platform")

NUM_FRAMES = 50
WIDTH, HEIGHT = 192, 96


@pytest.fixture(scope="module")
def video() -> bytes:
    """Return a video of colored noise that moves sideways, so that frames differ everywhere."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (HEIGHT // 8, WIDTH // 8 + NUM_FRAMES, 3), dtype=np.uint8)
    noise = coarse.repeat(8, axis=0).repeat(8, axis=1)
    images = [noise[:, 4 * frame : 4 * frame + WIDTH] for frame in range(NUM_FRAMES)]
    return encode_h264(images, 30, gop=25, crf=12)


def decord_frames(clip: bytes, positions_of: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return a clip's frames at its own size, decoded by decord."""
    reader = decord.VideoReader(io.BytesIO(clip), ctx=decord.cpu(0), num_threads=1)
    frames: np.ndarray = reader.get_batch(positions_of(len(reader)).tolist()).asnumpy()
    return frames


@pytest.mark.parametrize("size", [32, 112, 224])
@pytest.mark.parametrize("policy", COUNT_POLICIES)
@pytest.mark.parametrize("frames", [1, 5, 16])
def test_decode_clip_has_the_frames_that_decord_reads(
    size: int, policy: str, frames: int, video: bytes
) -> None:
    clip = transcode_clip(video, size)
    media = MediaInfo(kind="clip", size=size, policy=policy)
    expected = decord_frames(clip, lambda length: COUNT_POLICIES[policy](length, frames, 1))
    assert np.array_equal(decode_clip(clip, media, frames, size), expected)


def test_decode_video_whole_clip_has_the_frames_that_decord_reads() -> None:
    # at 64 pixels: decord fails at sizes like 48, whose rows it pads
    images = [np.full((64, 64, 3), 5 * frame, dtype=np.uint8) for frame in range(NUM_FRAMES)]
    clip = encode_h264(images, 24, gop=CLIP_GOP, crf=CLIP_CRF)
    frames = decode_video(clip, np.arange, 64, 64)
    assert len(frames) == NUM_FRAMES
    assert np.array_equal(frames, decord_frames(clip, np.arange))
