"""Conversion of raw media: what is stored, and the reasons of files that cannot be read."""

import errno
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec import storage
from mlrec.data.format import MediaInfo
from mlrec.data.media.frames import decode_video
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media.policies import middle
from shards_tools.pack.media import (
    AUDIO_RATE,
    CLIP_GOP,
    audio_flac,
    cover_jpeg,
    encode_h264,
    video_members,
)
from shards_tools.pack.raw_files import MediaError, read_file
from shards_tools.raw.media.raw_file import RawFile

FRAMES = MediaInfo(kind="frames", size=64)
CLIP = MediaInfo(kind="clip", size=64)


@pytest.fixture(scope="module")
def video() -> bytes:
    """Return 40 frames of 64 x 96 pixels, whose lightness is 20 + 4 x index."""
    images = []
    for index in range(40):
        images.append(np.full((64, 96, 3), 20 + 4 * index, dtype=np.uint8))
    return encode_h264(images, 24, gop=24, crf=10)


def wav(rate: int, seconds: float) -> bytes:
    """Return a stereo tone of 440 Hz."""
    import wave

    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        time_s = np.arange(int(rate * seconds)) / rate
        tone = (8000 * np.sin(time_s * 2 * np.pi * 440)).astype("<i2")
        file.writeframes(np.repeat(tone, 2).tobytes())
    return sink.getvalue()


def test_video_members_frames_are_those_of_the_policy(video: bytes) -> None:
    members = video_members(video, FRAMES, quality=95)
    assert list(members) == [f"{frame}.jpg" for frame in range(5)]
    lightness = [decode_jpeg(data, 64).mean() for data in members.values()]
    expected = 20 + 4 * np.asarray(middle(40, 5, 1))
    # JPEG and H.264 are lossy
    assert lightness == pytest.approx(expected.tolist(), abs=3)


def test_video_members_clip_has_all_frames_and_short_gops(video: bytes) -> None:
    import av

    clip = video_members(video, CLIP, quality=90)["mp4"]
    lightness = decode_video(clip, np.arange, 64).mean(axis=(1, 2, 3))
    assert lightness == pytest.approx(20 + 4 * np.arange(40), abs=4)
    with av.open(io.BytesIO(clip), "r") as container:
        is_key = [frame.key_frame for frame in container.decode(video=0)]
    assert max(np.diff(np.flatnonzero(is_key))) <= CLIP_GOP


@pytest.mark.parametrize(
    ("matrix", "red"),
    [
        ((1, 0, 0, 1), np.s_[:32, :32]),
        ((0, 1, -1, 0), np.s_[:32, 32:]),
        ((-1, 0, 0, -1), np.s_[32:, 32:]),
        ((0, -1, 1, 0), np.s_[32:, :32]),
        ((-1, 0, 0, 1), np.s_[:32, 32:]),
        ((1, 0, 0, -1), np.s_[32:, :32]),
        ((0, 1, 1, 0), np.s_[:32, :32]),
        ((0, -1, -1, 0), np.s_[32:, 32:]),
    ],
    ids=["0", "90", "180", "270", "mirrored", "upside down", "transposed", "transversed"],
)
def test_video_members_turned_video_is_stored_upright(
    matrix: tuple[int, int, int, int], red: tuple[slice, ...]
) -> None:
    image = np.full((64, 96, 3), 240, dtype=np.uint8)
    # the upper left quarter is red
    image[:32, :48] = (220, 30, 30)
    video = encode_h264([image] * 10, 24, gop=24, crf=10)
    xx, xy, yx, yy = [number << 16 for number in matrix]
    display_matrix = struct.pack(">9i", xx, xy, 0, yx, yy, 0, 0, 0, 1 << 30)
    # the display matrix is 44 bytes behind the start of the track's header
    offset = video.index(b"tkhd") + 44
    turned = video[:offset] + display_matrix + video[offset + len(display_matrix) :]
    clip = decode_video(video_members(turned, CLIP, 90)["mp4"], np.arange, 64)
    frame = decode_jpeg(video_members(turned, FRAMES, 95)["0.jpg"], 64)
    assert np.abs(clip[3].astype(int) - frame).mean() < 6
    is_red = clip[3, :, :, 2] < 120
    assert is_red[red].mean() > 0.95 and is_red.mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("media", [FRAMES, CLIP], ids=["frames", "clip"])
def test_video_members_same_video_gives_same_bytes(video: bytes, media: MediaInfo) -> None:
    assert video_members(video, media, 90) == video_members(video, media, 90)


@pytest.mark.parametrize("media", [FRAMES, CLIP], ids=["frames", "clip"])
@pytest.mark.parametrize("damage", ["text", "cut", "audio"])
def test_video_members_broken_video_has_a_reproducible_reason(
    video: bytes, media: MediaInfo, damage: str
) -> None:
    content = {
        "text": b"this is no video",
        "cut": video[: len(video) // 2],
        "audio": wav(8000, 0.2),
    }[damage]
    # the reason is packed too, and packing twice gives the same bytes
    reasons = set()
    for _ in range(2):
        with pytest.raises(MediaError) as caught:
            video_members(content, media, 90)
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert reasons.pop()


def test_read_file_unreadable_has_a_reason_without_paths(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for url, reason in {
        str(tmp_path / "empty"): "the file is empty",
        str(tmp_path / "deleted"): "the file is missing",
        str(tmp_path): "Is a directory",
        "/proc/self/mem": "Input/output error",
    }.items():
        with pytest.raises(MediaError) as caught:
            read_file(RawFile(url, 7))
        assert str(caught.value) == reason
    with pytest.raises(MediaError, match="the file is missing"):
        read_file(None)


def test_read_file_remote_file_is_read_by_its_listed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 bytes take three blocks
    monkeypatch.setattr("mlrec.storage.READ_BYTES", 8)
    storage.write_bytes("memory://raw/1.mp4", bytes(range(20)))
    assert read_file(RawFile("memory://raw/1.mp4", 20)) == bytes(range(20))
    # the file changed after its folder was listed
    with pytest.raises(MediaError, match="the file is shorter than the listing of its folder says"):
        read_file(RawFile("memory://raw/1.mp4", 21))
    with pytest.raises(MediaError, match="the file is missing"):
        read_file(RawFile("memory://raw/2.mp4", 20))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("1.mp4: failed 12 times"), PermissionError("1.mp4: the token has expired")],
)
def test_read_file_failing_storage_is_no_fault_of_the_file(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(url: str, size: int) -> bytes:
        raise error

    monkeypatch.setattr("mlrec.storage.read_bytes", read)
    with pytest.raises(type(error), match=str(error)):
        read_file(RawFile("s3://raw/1.mp4", 20))


def test_read_file_local_file_without_permission_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, mode: str) -> None:
        # raised here, because root, who runs tests in containers, is never denied
        raise PermissionError(errno.EACCES, "Permission denied", path)

    (tmp_path / "1.mp4").write_bytes(bytes(20))
    monkeypatch.setattr("pathlib.Path.open", deny)
    with pytest.raises(MediaError, match=r"^Permission denied$"):
        read_file(RawFile(str(tmp_path / "1.mp4"), 20))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("RGBA", "PNG"), ("P", "GIF"), ("L", "JPEG")]
)
def test_cover_jpeg_any_format_becomes_square_jpeg(mode: str, kind: str) -> None:
    sink = io.BytesIO()
    Image.new(mode, (80, 40), color=100 if mode in "PL" else None).save(sink, kind)
    with Image.open(io.BytesIO(cover_jpeg(sink.getvalue(), 32, 90))) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB")


def test_cover_jpeg_broken_cover_has_a_reason() -> None:
    with pytest.raises(MediaError, match="of a format that is not read as an image"):
        cover_jpeg(b"no image", 32, 90)


def test_cover_jpeg_damaged_avif_has_a_reason() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (64, 64), color=(90, 120, 150)).save(sink, "AVIF")
    content = sink.getvalue()
    # the type of the box that holds the picture
    offset = content.index(b"av01")
    with pytest.raises(MediaError, match="of a format that is not read as an image"):
        cover_jpeg(content[:offset] + b"xxxx" + content[offset + 4 :], 32, 90)


def test_audio_flac_stereo_becomes_mono_flac() -> None:
    import av

    flac = audio_flac(wav(44100, 0.5))
    assert flac == audio_flac(wav(44100, 0.5))
    with av.open(io.BytesIO(flac), "r") as container:
        assert container.streams.audio[0].codec_context.name == "flac"
        num_samples = sum(frame.samples for frame in container.decode(audio=0))
    assert num_samples == pytest.approx(AUDIO_RATE / 2, abs=200)


def test_audio_flac_recording_without_audio_stream_is_empty(video: bytes) -> None:
    assert audio_flac(video) == b""


def test_audio_flac_broken_audio_has_a_reason() -> None:
    with pytest.raises(MediaError):
        audio_flac(b"no sound")
