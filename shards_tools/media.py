"""What a sample holds of an item's raw media: JPEG frames or a clip, a JPEG cover, FLAC audio."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlrec import storage, transfer
from mlrec.data.format import MediaInfo
from mlrec.data.frames import FRAME_POLICIES, decode_video

if TYPE_CHECKING:
    from fractions import Fraction

    import av

AUDIO_RATE = 16_000
"""Hz, mono: what audio encoders read."""
CLIP_GOP = 8
"""Frames between keyframes of a packed clip; a decoder that seeks decodes at most so many."""
CLIP_CRF = 18
"""x264's constant rate factor of a packed clip; 18 is visually lossless."""

X264_PARAMS = "cpu-independent=1"
"""Without it x264's AVX-512 code gave other bytes from run to run, at widths that are no multiple of 128."""


class MediaError(Exception):
    """A raw file that cannot be read; the message is the reason, without paths, and the same in each run."""


class RawFile(NamedTuple):
    """A raw media file, as the listing of its folder tells it."""

    url: str
    size: int | None
    """Bytes; remote storage is asked for them in blocks side by side. None where the listing does not tell."""


def read_file(file: RawFile | None) -> bytes:
    """The content of a raw media file.

    Raises:
        MediaError: it is missing, empty, or not to be read.
        PermissionError: a remote storage refuses it, as it then does with all others.
        RuntimeError: a remote storage gave up.
    """
    if file is None:
        raise MediaError("the file is missing")
    try:
        content = storage.read_bytes(file.url, file.size)
    except FileNotFoundError as error:
        raise MediaError("the file is missing") from error
    except transfer.CutShortError as error:
        raise MediaError("the file is shorter than the listing of its folder says") from error
    except OSError as error:
        if isinstance(error, PermissionError) and not storage.is_local(file.url):
            raise
        raise MediaError(error.strerror or type(error).__name__) from error
    if not content:
        raise MediaError("the file is empty")
    return content


def video_members(content: bytes, media: MediaInfo, quality: int) -> dict[str, bytes]:
    """The members that stand for a video: "0.jpg" ... of its frames, or "mp4".

    Raises:
        MediaError: the video cannot be decoded.
    """
    if media.kind == "clip":
        return {"mp4": transcode_clip(content, media.size)}
    policy = FRAME_POLICIES[media.policy]
    try:
        frames = decode_video(content, lambda length: policy(length, media.frames, media.interval), media.size)
    except ValueError as error:
        raise MediaError(str(error)) from error
    return {f"{index}.jpg": encode_jpeg(frame, quality) for index, frame in enumerate(frames)}


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A uint8 RGB image [H, W, 3] as JPEG with 4:2:0 chroma."""
    import simplejpeg

    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"))


def cover_jpeg(content: bytes, size: int, quality: int) -> bytes:
    """A cover image as JPEG of size x size, scaled without keeping the aspect ratio, as MicroLens does.

    Raises:
        MediaError: it is no image that PIL reads.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            scaled = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    except Exception as error:  # each of PIL's formats has errors of its own kind
        raise MediaError(f"not a readable image: {type(error).__name__}") from error  # PIL's words name a memory address
    return encode_jpeg(np.asarray(scaled), quality)


def transcode_clip(content: bytes, size: int) -> bytes:
    """A video as H.264 in MP4, size x size pixels, at its own frame rate, with a keyframe every CLIP_GOP frames, without sound.

    It is stored upright: a phone's video is often sideways, with the angle beside it that decord turns it by.

    Raises:
        MediaError: the video cannot be decoded.
    """
    import av

    try:
        with av.open(io.BytesIO(content), "r") as source:
            if not source.streams.video:
                raise MediaError("the file has no video stream")
            stream = source.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            if rate is None:
                raise MediaError("the video states no frame rate")
            images = (_upright(frame, frame.reformat(size, size, "rgb24").to_ndarray()) for frame in source.decode(stream))
            return encode_h264(images, rate, gop=CLIP_GOP, crf=CLIP_CRF)
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(_reason(error)) from error


def _upright(frame: av.VideoFrame, image: np.ndarray) -> np.ndarray:
    """The image turned as the frame says, counterclockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def encode_h264(images: Iterable[np.ndarray], rate: Fraction | int, gop: int, crf: int) -> bytes:
    """Uint8 RGB images [H, W, 3] as H.264 in MP4; the same images give the same bytes.

    Raises:
        MediaError: there are no images.
    """
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": str(crf), "g": str(gop), "threads": "1", "x264-params": X264_PARAMS}
        index = -1
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            target.mux(stream.encode(frame))
        if index < 0:
            raise MediaError("the video has no frames")
        target.mux(stream.encode())
    return sink.getvalue()


def audio_flac(content: bytes) -> bytes:
    """An audio file as FLAC, mono, AUDIO_RATE.

    Raises:
        MediaError: it cannot be decoded.
    """
    import av

    sink = io.BytesIO()
    try:
        with av.open(io.BytesIO(content), "r") as source, av.open(sink, "w", format="flac") as target:
            if not source.streams.audio:
                raise MediaError("the file has no audio stream")
            stream = target.add_stream("flac", rate=AUDIO_RATE, layout="mono")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE)
            for decoded in source.decode(source.streams.audio[0]):
                for frame in resampler.resample(decoded):
                    target.mux(stream.encode(frame))
            for frame in resampler.resample(None):
                target.mux(stream.encode(frame))
            target.mux(stream.encode())
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(_reason(error)) from error
    return sink.getvalue()


def _reason(error: Exception) -> str:
    """An FFmpeg error in its own words, without the name it gave the file."""
    words = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {words}"
