"""Frames of a video that a policy chooses by their content."""

from __future__ import annotations

import numpy as np
import pytest

from mlrec.data.format import MediaInfo
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media.policies import FrameRequest
from shards_tools.pack.image_frames import ImageSource, choose_images
from shards_tools.pack.media import encode_h264, encode_jpeg, frame_members, video_members
from shards_tools.pack.settings import Settings
from shards_tools.raw.media.raw_file import RawFile

SIDE = 64
COLORS = np.array([(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 30)], dtype=np.uint8)
LENGTHS = [40, 7, 90, 23]
"""Frames of each scene."""


@pytest.fixture(scope="module")
def film() -> bytes:
    """Four scenes of one color each."""
    scene_of_frames = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    images = (np.broadcast_to(COLORS[scene], (SIDE, SIDE, 3)) for scene in scene_of_frames)
    return encode_h264(images, 24, gop=50, crf=18)


def colors_of(members: dict[str, bytes]) -> list[int]:
    """Return the nearest of COLORS for each frame."""
    nearest = []
    for jpeg in members.values():
        color = decode_jpeg(jpeg, SIDE).mean(axis=(0, 1))
        nearest.append(int(np.abs(COLORS - color).sum(axis=1).argmin()))
    return nearest


def test_video_members_by_scenes_have_each_scene_once(film: bytes) -> None:
    media = MediaInfo(kind="frames", policy="scenes", frames=4, size=SIDE)
    members = video_members(film, media, 90)
    assert list(members) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert colors_of(members) == [0, 1, 2, 3]
    # the same video gives the same bytes
    assert video_members(film, media, 90) == members


def test_video_members_by_scenes_of_a_short_video_repeat_frames(film: bytes) -> None:
    short = encode_h264(np.broadcast_to(COLORS[:2, None, None], (2, SIDE, SIDE, 3)), 24, 8, 18)
    media = MediaInfo(kind="frames", policy="scenes", frames=4, size=SIDE)
    assert colors_of(video_members(short, media, 90)) == [0, 0, 1, 1]


def test_choose_images_by_scenes_has_each_scene_once() -> None:
    scene_of_images = [0, 0, 1, 1, 1, 2, 2, 3]
    jpegs: dict[str, bytes] = {}
    for place, scene in enumerate(scene_of_images):
        image = np.broadcast_to(COLORS[scene], (SIDE, SIDE, 3))
        jpegs[f"17-{place}.jpg"] = encode_jpeg(image, 90)
    source = ImageSource(
        [RawFile(name, len(jpeg)) for name, jpeg in jpegs.items()], lambda file: jpegs[file.url]
    )
    media = MediaInfo(kind="frames", policy="scenes", frames=4, size=SIDE)
    images = choose_images(source, media, FrameRequest(4))
    assert colors_of(frame_members(images, 90)) == [0, 1, 2, 3]


def test_settings_of_clips_by_scenes_raise() -> None:
    with pytest.raises(ValueError, match="--policy scenes cannot be combined with --media clip"):
        Settings(media="clip", policy="scenes")
    with pytest.raises(ValueError, match="chosen at each read, by middle or uniform"):
        MediaInfo(kind="clip", policy="scenes")
