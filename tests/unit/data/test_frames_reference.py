"""Frames of videos in many containers and cuts, compared with those that ffmpeg shows.

Each frame has its number in the picture, as ten light or dark blocks. ffmpeg makes the videos and
decodes them whole, as a player does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlrec.data.media.frames import decode_video
from mlrec.data.media.policies import middle, uniform

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is not installed, which makes the videos"
)
WIDTH, HEIGHT = 160, 96
NUM_FRAMES = 120
SIDE = 40
MAX_DIFFERENCE = 4
"""Largest mean difference of two equal frames; the next frame differs by 17 or more."""

X264 = "-c:v libx264 -preset veryfast -crf 14 -pix_fmt yuv420p -g 48 -bf 3"
X264_OPEN_GOP = f"{X264} -g 20 -x264-params open-gop=1:scenecut=0:b-adapt=0"
X265 = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params"
X265_OPEN_GOP = f"{X265} keyint=20:bframes=3:open-gop=1:scenecut=0:log-level=error"
MPEG2 = "-c:v mpeg2video -q:v 3 -g 15 -bf 2"
VP8 = "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -b:v 1M -g 48 -cpu-used 5"
VP9 = "-c:v libvpx-vp9 -b:v 1M -g 48 -deadline realtime -cpu-used 8"
AV1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 48"
EVERY_OTHER = "-vf select='not(mod(n\\,7))+not(mod(n\\,3))+gt(n\\,80)' -fps_mode vfr"

ENCODED = {
    "mp4": ("x.mp4", X264),
    "mov": ("x.mov", X264),
    "mkv": ("x.mkv", X264),
    "flv": ("x.flv", X264),
    "ts": ("x.ts", X264),
    "fragmented mp4": ("x.mp4", f"{X264} -movflags empty_moov+frag_keyframe"),
    "open GOP": ("x.mp4", X264_OPEN_GOP),
    "intra refresh": ("x.ts", f"{X264} -bf 0 -x264-params intra-refresh=1:keyint=20"),
    "interlaced": ("x.ts", f"{X264} -flags +ilme+ildct"),
    "10 bits": ("x.mp4", f"{X264} -pix_fmt yuv420p10le"),
    "4:4:4": ("x.mp4", f"{X264} -pix_fmt yuv444p"),
    "HEVC open GOP": ("x.mp4", X265_OPEN_GOP),
    "avi H.264 with B-frames": ("x.avi", X264),
    "avi MPEG-4 with B-frames": ("x.avi", "-c:v mpeg4 -q:v 3 -g 40 -bf 2"),
    "avi packed B-frames": ("x.avi", "-c:v libxvid -q:v 3 -g 40 -bf 2"),
    "mpg MPEG-1": ("x.mpg", "-c:v mpeg1video -q:v 3 -g 15 -bf 2"),
    "mpg MPEG-2": ("x.mpg", f"{MPEG2} -f vob"),
    "raw H.264": ("x.h264", X264),
    "wmv": ("x.wmv", "-c:v wmv2 -q:v 3 -g 40"),
    "ogv": ("x.ogv", "-c:v libtheora -q:v 8 -g 40"),
    "webm VP8": ("x.webm", VP8),
    "webm VP9": ("x.webm", VP9),
    "webm without duration": ("x.webm", f"{VP9} -live 1"),
    "AV1": ("x.mp4", AV1),
    "GIF": ("x.gif", "-r 20"),
    "animated PNG": ("x.png", "-f apng"),
    "variable frame rate": ("x.mp4", f"{EVERY_OTHER} {X264}"),
}
"""File name and ffmpeg's arguments, by what is special."""

COPIED = {
    "mp4 cut at 0.7 s": (X264, "-ss 0.7", "-t 1", "y.mp4"),
    "mp4 cut at 1.9 s": (X264, "-ss 1.9", "-t 1", "y.mp4"),
    "mp4 cut at 3.1 s": (X264, "-ss 3.1", "-t 1", "y.mp4"),
    "open GOP cut": (X264_OPEN_GOP, "-ss 1.9", "-t 1", "y.mp4"),
    "HEVC open GOP cut": (X265_OPEN_GOP, "-ss 1.9", "-t 1", "y.mp4"),
    "MPEG-4 cut": ("-c:v mpeg4 -q:v 3 -g 40 -bf 2", "-ss 1.9", "-t 1", "y.mp4"),
    "mkv cut": (X264, "-ss 1.9", "-t 1", "y.mkv"),
    "ts cut": (f"{X264} -g 20", "-ss 1.9", "-t 1", "y.ts"),
    "turned": (X264, "", "-metadata:s:v:0 rotate=90", "y.mp4"),
    "later times": (X264, "", "-output_ts_offset 100", "y.mkv"),
}
"""Encoder of an mp4, and how it is copied: arguments before and after it, and the copy's name."""


@pytest.fixture(scope="module")
def raw_frames() -> bytes:
    """Return numbered frames as raw RGB."""
    frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    for number in range(NUM_FRAMES):
        for bit in range(10):
            row, column = divmod(bit, 5)
            if number >> bit & 1:
                block = frames[number, row * HEIGHT // 2 :, column * WIDTH // 5 :]
                block[: HEIGHT // 2, : WIDTH // 5] = 215
    return frames.tobytes()


def ffmpeg(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run ffmpeg, each argument of type str split at its spaces, and return its output."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y"]
    for argument in arguments:
        command += argument.split() if isinstance(argument, str) else [str(argument)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def encode(raw_frames: bytes, arguments: str, path: Path) -> Path:
    """Encode the numbered frames."""
    source = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r 30 -i -"
    ffmpeg(source, arguments, path, stdin=raw_frames)
    return path


def check_frames(path: Path, least: int = 20, incomplete: int = 0) -> None:
    """Compare the frames of a video with those that ffmpeg shows.

    Args:
        least: Number of frames that ffmpeg shows at least.
        incomplete: Number of frames at the end that are not compared.
    """
    shown = ffmpeg(
        "-i", path, f"-fps_mode passthrough -vf scale={SIDE}:{SIDE}:flags=bilinear",
        "-pix_fmt rgb24 -f rawvideo -",
    )  # fmt: skip
    expected = np.frombuffer(shown, np.uint8).reshape(-1, SIDE, SIDE, 3).astype(int)
    length = len(expected)
    assert length >= least
    assert np.abs(np.diff(expected, axis=0)).mean(axis=(1, 2, 3)).min() > 3 * MAX_DIFFERENCE
    choices: list[Callable[[int], np.ndarray]] = [
        lambda length: middle(length, 5, 1),
        lambda length: uniform(length, 5, 1),
        lambda length: np.arange(length - incomplete),
    ]
    for positions_of in choices:
        frames = decode_video(path.read_bytes(), positions_of, SIDE)
        wanted = expected[positions_of(length)]
        assert frames.shape == wanted.shape
        assert np.abs(frames - wanted).mean(axis=(1, 2, 3)).max() < MAX_DIFFERENCE


@pytest.mark.parametrize("case", ENCODED)
def test_decode_video_container_gives_the_frames_that_ffmpeg_shows(
    case: str, raw_frames: bytes, tmp_path: Path
) -> None:
    name, arguments = ENCODED[case]
    check_frames(encode(raw_frames, arguments, tmp_path / name))


@pytest.mark.parametrize("case", COPIED)
def test_decode_video_copy_gives_the_frames_that_ffmpeg_shows(
    case: str, raw_frames: bytes, tmp_path: Path
) -> None:
    encoder, before, after, name = COPIED[case]
    video = encode(raw_frames, encoder, tmp_path / "x.mp4")
    ffmpeg(before, "-i", video, after, "-c copy", tmp_path / name)
    check_frames(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("x.ts", MPEG2), ("x.mpg", f"{MPEG2} -f vob"), ("x.ts", X264), ("x.h264", f"{X264} -g 30")],
    ids=["ts", "mpg", "ts H.264", "raw H.264"],
)
@pytest.mark.parametrize("part", [slice(0.4, 1), slice(0, 0.6)], ids=["start", "end"])
def test_decode_video_cut_anywhere_gives_the_frames_that_ffmpeg_shows(
    name: str, arguments: str, part: slice, raw_frames: bytes, tmp_path: Path
) -> None:
    path = encode(raw_frames, arguments, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[int(part.start * len(content)) : int(part.stop * len(content))])
    # ffmpeg shows the part that there is of the last frame, and gray below it
    check_frames(path, incomplete=1)


@pytest.mark.parametrize("name", ["y.mp4", "y.mkv"])
def test_decode_video_several_streams_reads_the_one_that_ffmpeg_shows(
    name: str, raw_frames: bytes, tmp_path: Path
) -> None:
    video = encode(raw_frames, X264, tmp_path / "x.mp4")
    small = f"-f lavfi -i color=green:s=64x48:d=1 -i {video}"
    ffmpeg(small, "-map 0 -map 1 -disposition:v 0", tmp_path / name)
    if name == "y.mkv":
        check_frames(tmp_path / name)
    # mp4 always has a default stream, which is the first one: here it is green
    else:
        frames = decode_video((tmp_path / name).read_bytes(), np.arange, SIDE)
        assert frames[:, :, :, 0].max() < 30 < frames[:, :, :, 1].min()


def test_decode_video_cover_picture_is_not_the_video(raw_frames: bytes, tmp_path: Path) -> None:
    video = encode(raw_frames, X264, tmp_path / "x.mp4")
    ffmpeg("-f lavfi -i color=green:s=640x480 -frames:v 1", tmp_path / "cover.jpg")
    covered = tmp_path / "y.mp4"
    ffmpeg(
        "-i", tmp_path / "cover.jpg", "-i", video,
        "-map 0 -map 1 -c copy -disposition:v:0 attached_pic", covered,
    )  # fmt: skip
    check_frames(covered)


def test_decode_video_joined_recordings_follow_each_other(
    raw_frames: bytes, tmp_path: Path
) -> None:
    path = encode(raw_frames, X264, tmp_path / "x.ts")
    path.write_bytes(path.read_bytes() * 2)
    check_frames(path, least=2 * NUM_FRAMES)
