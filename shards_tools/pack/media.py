"""What a sample holds of an item's raw media: JPEG frames or a clip, a JPEG cover, FLAC audio."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlrec import storage
from mlrec.data.format import MediaInfo
from mlrec.data.media.containers import (
    AUDIO_FORMATS,
    VIDEO_FORMATS,
    UnreadableError,
    audio_frames,
    open_media,
    video_stream,
)
from mlrec.data.media.frames import FRAME_POLICIES, decode_video
from mlrec.storage import transfer

if TYPE_CHECKING:
    from fractions import Fraction

    import av

AUDIO_RATE = 16_000
"""Hz, mono: what audio encoders read."""
MAX_RAW_BYTES = 1 << 30
"""Larger raw files are not read: they are held in memory whole."""
MAX_COVER_PIXELS = 50_000_000
"""Larger covers are refused before they are decoded."""
COVER_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "AVIF",
    "BMP",
    "TIFF",
    "MPO",
    "JPEG2000",
    "PPM",
    "ICO",
)
"""PIL's formats that need no program of another make, such as Ghostscript."""
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
    if file.size is not None and file.size > MAX_RAW_BYTES:
        raise MediaError(
            f"the file has {file.size:,} bytes, more than the {MAX_RAW_BYTES:,} that are read"
        )
    try:
        content = _read(file)
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


def _read(file: RawFile) -> bytes:
    if not storage.is_local(file.url):
        return storage.read_bytes(file.url, file.size)
    # a device would be read without an end; a pipe that nobody writes to meets the time limit of its item
    path = storage.local_path(file.url)
    kind = path.stat().st_mode
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        raise MediaError("it is no regular file")
    with path.open("rb") as stream:
        content = stream.read(MAX_RAW_BYTES + 1)
    if len(content) > MAX_RAW_BYTES:
        raise MediaError(f"the file has more than the {MAX_RAW_BYTES:,} bytes that are read")
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
        frames = decode_video(
            content, lambda length: policy(length, media.frames, media.interval), media.size
        )
    except UnreadableError as error:
        raise MediaError(str(error)) from error
    return {f"{index}.jpg": encode_jpeg(frame, quality) for index, frame in enumerate(frames)}


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A uint8 RGB image [H, W, 3] as JPEG with 4:2:0 chroma."""
    import simplejpeg

    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
        )
    )


def cover_jpeg(content: bytes, size: int, quality: int) -> bytes:
    """A cover image as JPEG of size x size, scaled without keeping the aspect ratio, as MicroLens does.

    Raises:
        MediaError: it is no image of COVER_FORMATS, too large, or damaged.
    """
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content), formats=COVER_FORMATS) as image,
        ):
            if image.width * image.height > MAX_COVER_PIXELS:  # told by its header
                raise MediaError(
                    f"the image is {image.width} x {image.height} pixels, more than {MAX_COVER_PIXELS:,}"
                )
            scaled = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    except MediaError:
        raise
    except Exception as error:  # each of PIL's formats has errors of its own kind, some of which name a memory address
        raise MediaError(
            "the file is damaged, or of a format that is not read as an image"
        ) from error
    return encode_jpeg(np.asarray(scaled), quality)


def transcode_clip(content: bytes, size: int) -> bytes:
    """A video as H.264 in MP4, size x size pixels, at its own frame rate, with a keyframe every CLIP_GOP frames, without sound.

    It is stored upright: a phone's video is often sideways, with the angle to turn it by beside it.

    Raises:
        MediaError: the video cannot be decoded.
    """

    try:
        with open_media(content, "video", VIDEO_FORMATS) as source:
            stream = video_stream(source)
            rate = stream.average_rate or stream.guessed_rate
            if rate is None:
                raise UnreadableError("the video states no frame rate")
            images = (
                _upright(frame, frame.reformat(size, size, "rgb24").to_ndarray())
                for frame in source.decode(stream)
            )
            return encode_h264(images, rate, gop=CLIP_GOP, crf=CLIP_CRF)
    except UnreadableError as error:
        raise MediaError(str(error)) from error


def _upright(frame: av.VideoFrame, image: np.ndarray) -> np.ndarray:
    """The image turned as the frame says, counterclockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def encode_h264(images: Iterable[np.ndarray], rate: Fraction | int, gop: int, crf: int) -> bytes:
    """Uint8 RGB images [H, W, 3] as H.264 in MP4; the same images give the same bytes.

    Raises:
        UnreadableError: there are no images.
    """
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "preset": "veryfast",
            "crf": str(crf),
            "g": str(gop),
            "threads": "1",
            "x264-params": X264_PARAMS,
        }
        index = -1
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            target.mux(stream.encode(frame))
        if index < 0:
            raise UnreadableError("the video has no frames")
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
        with (
            open_media(content, "audio", AUDIO_FORMATS) as source,
            av.open(sink, "w", format="flac") as target,
        ):
            stream = target.add_stream("flac", rate=AUDIO_RATE, layout="mono")
            for frame in audio_frames(source, AUDIO_RATE):
                target.mux(stream.encode(frame))
            target.mux(stream.encode())
    except UnreadableError as error:
        raise MediaError(str(error)) from error
    return sink.getvalue()
