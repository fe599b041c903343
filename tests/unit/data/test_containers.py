"""Untrusted media files: bounded before decoding, with reasons that depend on their bytes alone."""

from __future__ import annotations

import io
import random
import resource
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from mlrec.data.decode import decode_items
from mlrec.data.decoders import decode_clip
from mlrec.data.format import MediaInfo
from mlrec.data.media import containers
from mlrec.data.media.audio import decode_audio
from mlrec.data.media.containers import UnreadableError
from mlrec.data.media.frames import decode_video
from mlrec.data.media.jpeg import JPEG_SLACK_BYTES, decode_jpeg
from mlrec.data.media.policies import middle, uniform
from mlrec.data.schema import InputSpec, Modality
from shards_tools.pack.media import (
    audio_flac,
    cover_jpeg,
    encode_h264,
    video_members,
)
from shards_tools.pack.raw_files import MediaError, read_file
from shards_tools.raw.media.raw_file import RawFile

SIDE = 64
CLIP = MediaInfo(kind="clip", size=SIDE)
FRAMES = MediaInfo(kind="frames", frames=1, size=SIDE)
MOST_EXTRA_KB = 200_000
"""What refusing a file may add to the process's peak memory."""


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def video() -> bytes:
    """100 frames of 64 x 64, each lighter than the one before, with a keyframe every 25."""
    return encode_h264(
        (np.full((SIDE, SIDE, 3), 2 * index, dtype=np.uint8) for index in range(100)),
        24,
        gop=25,
        crf=10,
    )


def image(picture: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def jpeg_claiming(side: int) -> bytes:
    raw = bytearray(simplejpeg.encode_jpeg(noise(SIDE, SIDE)))
    at = raw.index(b"\xff\xc0")
    raw[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(raw)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def wav(rate: int, samples: int, channels: int = 1) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * channels * samples))
    return sink.getvalue()


def reason_of(action: Callable[[], object], error: type[Exception] = ValueError) -> str:
    """The words that the action fails with, after a look at the memory that it took."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error) as caught:
        action()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_EXTRA_KB
    return str(caught.value)


@pytest.mark.parametrize("policy", [middle, uniform])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_video_frames_are_those_of_their_positions(
    video: bytes, policy: Callable[..., np.ndarray], count: int
) -> None:
    frames = decode_video(video, lambda length: policy(length, count, 1), SIDE)
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx(2.0 * policy(100, count, 1), abs=3)


@pytest.mark.parametrize("repeat", range(2))
def test_video_damaged_anywhere_has_one_outcome(video: bytes, repeat: int) -> None:
    outcomes = []
    for seed in range(25):
        changing, damaged = random.Random(seed), bytearray(video)
        for _ in range(changing.choice([1, 5, 50])):
            damaged[changing.randrange(48, len(damaged))] = changing.randrange(256)
        try:
            frames = decode_video(bytes(damaged), lambda length: middle(length, 5, 1), SIDE)
            outcomes.append(str(zlib.crc32(frames.tobytes())))
        except UnreadableError as error:
            outcomes.append(str(error))
    _OUTCOMES.append(outcomes)
    assert all(earlier == outcomes for earlier in _OUTCOMES)
    assert not any("0x" in reason or "/" in reason for reason in outcomes)


_OUTCOMES: list[list[str]] = []


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b"no video",
        b"\0" * 1000,
    ],
    ids=["hls", "concat", "dash", "sdp", "text", "zeros"],
)
def test_video_playlists_and_other_files_are_not_opened(content: bytes) -> None:
    for media in (FRAMES, CLIP):
        assert reason_of(
            lambda media=media: video_members(content, media, 90), MediaError
        ).endswith("not read as video")
    assert reason_of(lambda: audio_flac(content), MediaError).endswith("not read as audio")
    assert reason_of(lambda: decode_audio(content, 100)).endswith("not read as audio")


@pytest.mark.parametrize("side", [32, 96, 256])
def test_clip_of_another_size_is_refused_before_it_is_decoded(side: int) -> None:
    other = encode_h264([noise(side, side)] * 3, 24, gop=8, crf=30)
    assert f" is {side} x {side} pixels, " in reason_of(lambda: decode_clip(other, CLIP, 2, 32))


def test_clip_whose_header_hides_its_size_is_refused() -> None:
    large = encode_h264([noise(512, 512)] * 3, 24, gop=8, crf=30)
    hidden = large.replace(struct.pack(">HH", 512, 512), struct.pack(">HH", SIDE, SIDE))
    assert hidden != large
    assert reason_of(lambda: decode_clip(hidden, CLIP, 2, 32))


def test_video_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, video: bytes) -> None:
    monkeypatch.setattr("mlrec.data.media.frames.MAX_FRAME_PIXELS", 1000)
    reason = reason_of(lambda: video_members(video, FRAMES, 90), MediaError)
    assert "64 x 64 pixels" in reason or "damaged" in reason
    monkeypatch.setattr("mlrec.data.media.frames.MAX_FRAME_PIXELS", 10**7)
    monkeypatch.setattr("mlrec.data.media.index.MAX_FRAMES", 50)
    assert (
        reason_of(lambda: video_members(video, FRAMES, 90), MediaError)
        == "the video has more than 50 frames"
    )


@pytest.mark.parametrize("side", [SIDE - 1, SIDE + 1, 4096, 65500])
def test_jpeg_of_another_size_is_a_bad_item(side: int) -> None:
    samples = [(3, {"0.jpg": jpeg_claiming(side), "cover.jpg": jpeg_claiming(side)})]
    for modality in (Modality.VIDEO, Modality.COVER):
        spec = InputSpec(modality, frames=1, size=32)
        _, valid, bad_items = decode_items(
            samples, 1, [spec], MediaInfo("frames", frames=1, size=SIDE, has_cover=True)
        )
        assert not valid.any()
        assert bad_items == {3: f"the image is {side} x {side} pixels, the data set says 64 x 64"}


@pytest.mark.parametrize("size", [SIDE, 32])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "progressive"])
def test_jpeg_of_any_colours_is_decoded(mode: str, size: int) -> None:
    picture = Image.fromarray(np.full((SIDE, SIDE, 3), 100, np.uint8))
    raw = image(
        picture.convert(mode) if mode != "progressive" else picture,
        "JPEG",
        progressive=mode == "progressive",
    )
    assert decode_jpeg(raw, SIDE, size).mean() == pytest.approx(100, abs=3)


@pytest.mark.parametrize(
    "raw",
    [
        image(Image.fromarray(noise(SIDE, SIDE)), "PNG"),
        b"",
        b"\xff\xd8",
        png_claiming(10, 10),
        jpeg_claiming(SIDE)[:500],
    ],
    ids=["png", "empty", "start", "tiny", "cut"],
)
def test_jpeg_that_is_none_is_refused(raw: bytes) -> None:
    assert reason_of(lambda: decode_jpeg(raw, SIDE))


def test_jpeg_of_too_many_bytes_is_refused() -> None:
    raw = simplejpeg.encode_jpeg(noise(SIDE, SIDE)) + bytes(JPEG_SLACK_BYTES + 8 * SIDE**2)
    assert "bytes, more than" in reason_of(lambda: decode_jpeg(raw, SIDE))


@pytest.mark.parametrize(
    "content",
    [
        png_claiming(60_000, 60_000),
        png_claiming(2**31 - 1, 2**31 - 1),
        png_claiming(9_000, 9_000),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(50),
        jpeg_claiming(65500),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n",
    ],
    ids=["png", "png_2**31", "png_81M", "gif", "jpeg", "eps"],
)
def test_cover_bombs_are_refused(content: bytes) -> None:
    reason = reason_of(lambda: cover_jpeg(content, 32, 90), MediaError)
    assert "pixels, more than" in reason or reason.endswith("not read as an image")


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (3_999, 1), (1_000_000, 1), (8_000, 65)])
def test_audio_with_odd_rates_or_channels_is_refused(rate: int, channels: int) -> None:
    assert reason_of(lambda: audio_flac(wav(rate, 100, channels)), MediaError)


def test_audio_too_long_is_refused_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    flac = audio_flac(wav(16_000, 48_000))
    assert decode_audio(flac, 100).shape == (100,)
    monkeypatch.setattr(containers, "MAX_AUDIO_S", 2)
    assert reason_of(lambda: decode_audio(flac, 100)) == "the audio lasts more than 2 s"
    assert (
        reason_of(lambda: audio_flac(wav(16_000, 48_000)), MediaError)
        == "the audio lasts more than 2 s"
    )


def test_audio_member_of_another_format_is_refused() -> None:
    assert reason_of(lambda: decode_audio(wav(16_000, 100), 10)).endswith("not read as audio")


def test_raw_files_without_an_end_are_not_read(tmp_path: Path) -> None:
    import os

    (tmp_path / "zero").symlink_to("/dev/zero")
    assert (
        reason_of(lambda: read_file(RawFile(str(tmp_path / "zero"), 0)), MediaError)
        == "it is no regular file"
    )
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**12)
    assert "1,000,000,000,000 bytes" in reason_of(
        lambda: read_file(RawFile(str(tmp_path / "sparse"), 10**12)), MediaError
    )
    assert "more than the 1,000 bytes" in reason_of(
        lambda: read_file(RawFile(str(tmp_path / "sparse"), 7), max_bytes=1000), MediaError
    )
