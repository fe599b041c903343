"""Convert an item's raw media to members of its sample: frames or a clip, cover, audio."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Transpose

from mlrec.data.format import AUDIO_RATE, MediaInfo
from mlrec.data.media.containers import (
    AUDIO_FORMATS,
    VIDEO_FORMATS,
    UnreadableError,
    audio_frames,
    decoded_frames,
    open_media,
    video_stream,
)
from mlrec.data.media.policies import FrameRequest
from mlrec.data.media.scaling import Scaler, is_turned
from shards_tools.pack.frames import decode_chosen
from shards_tools.pack.raw_files import MediaError

if TYPE_CHECKING:
    from fractions import Fraction

    import av
    from av.container import InputContainer
MAX_COVER_PIXELS = 50_000_000
"""Largest cover that is decoded."""
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
"""PIL's formats that need no external program, such as Ghostscript."""
EXIF_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""How to turn an image upright, by its EXIF orientation."""
CLIP_GOP = 8
"""Frames from one keyframe of a packed clip to the next, which bounds the cost of seeking."""
CLIP_CRF = 18
"""x264's constant rate factor of a packed clip; 18 is visually lossless."""
X264_PARAMS = "cpu-independent=1"
"""Parameters of x264 that make its output reproducible.

Its AVX-512 code gave different bytes from run to run at widths that are not multiples of 128.
"""


def video_members(
    content: bytes, media: MediaInfo, quality: int, request: FrameRequest | None = None
) -> dict[str, bytes]:
    """Return the members of a video: "0.jpg", "1.jpg", ... for its frames, or "mp4" for a clip.

    Args:
        request: What the frame policy gets; None for the frames and interval of `media`.

    Raises:
        MediaError: the video cannot be decoded.
    """
    if media.kind == "clip":
        return {"mp4": transcode_clip(content, media.size)}
    try:
        frames = decode_chosen(
            content, media, request or FrameRequest(media.frames, media.interval)
        )
    except UnreadableError as error:
        raise MediaError(str(error)) from error
    return frame_members(frames, quality)


def frame_members(frames: np.ndarray, quality: int) -> dict[str, bytes]:
    """Return uint8 RGB frames [T, H, W, 3] as the members "0.jpg", "1.jpg", ..."""
    return {f"{index}.jpg": encode_jpeg(frame, quality) for index, frame in enumerate(frames)}


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Return a uint8 RGB image [H, W, 3] as JPEG with 4:2:0 chroma."""
    import simplejpeg

    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return bytes(jpeg)


def cover_jpeg(content: bytes, size: int, quality: int) -> bytes:
    """Return a cover image as JPEG of size x size pixels.

    Raises:
        MediaError: it cannot be decoded.
    """
    return encode_jpeg(decode_image(content, size), quality)


def decode_image(content: bytes, size: int) -> np.ndarray:
    """Return an image file as uint8 RGB [size, size, 3].

    It looks as in a browser: turned upright, on white where it is transparent, and an animation
    shows its first frame. It is scaled without keeping the aspect ratio, as in MicroLens.

    Raises:
        MediaError: it is not in COVER_FORMATS, too large, or damaged.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content), formats=COVER_FORMATS) as image,
        ):
            # The header tells the size. Nothing is decoded before convert().
            if image.width * image.height > MAX_COVER_PIXELS:
                raise MediaError(
                    f"the image is {image.width} x {image.height} pixels, "
                    f"more than {MAX_COVER_PIXELS:,}"
                )
            scaled = _to_rgb(image).resize((size, size), Image.Resampling.BICUBIC)
            turn = EXIF_TURNS.get(_orientation(image))
            if turn is not None:
                scaled = scaled.transpose(turn)
    except MediaError:
        raise
    except Exception as error:
        # Each of PIL's formats raises its own errors. Some name a memory address, which would
        # change from run to run.
        raise MediaError(
            "the file is damaged, or of a format that is not read as an image"
        ) from error
    return np.asarray(scaled)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image; 1, which is upright, if it has none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (ValueError, SyntaxError, struct.error):
        # viewers show an image whose EXIF data are damaged as it is stored
        return 1
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB, 8 bits per channel.

    Raises:
        MediaError: its values have no known range.
    """
    if image.mode in ("I", "F"):
        raise MediaError("the image has gray values of 32 bits, whose range is not known")
    # PIL clips 16 bits to 255, which leaves a white image
    if image.mode.startswith("I;16"):
        return _from_16_bits(image).convert("RGB")
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colors).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Return an image of gray values of 16 bits in 8 bits."""
    values = np.asarray(image)
    grays = (values >> 8).astype(np.uint8)
    # a PNG may declare one gray value transparent
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grays[values == transparent] = 255
    return Image.fromarray(grays)


def transcode_clip(content: bytes, size: int) -> bytes:
    """Return a video as H.264 in MP4, size x size pixels, at its own frame rate, without sound.

    It is stored upright. A phone's video is often sideways, and its metadata say how to turn it.

    Raises:
        MediaError: the video cannot be decoded.
    """
    try:
        with open_media(content, "video", VIDEO_FORMATS) as source:
            stream = video_stream(source)
            rate = stream.average_rate or stream.guessed_rate
            if rate is None:
                raise UnreadableError("the video states no frame rate")
            # a generator: a long clip would not fit in memory
            images = _scaled_images(decoded_frames(source, stream), size)
            return encode_h264(images, rate, gop=CLIP_GOP, crf=CLIP_CRF)
    except UnreadableError as error:
        raise MediaError(str(error)) from error


def _scaled_images(frames: Iterable[av.VideoFrame], size: int) -> Iterator[np.ndarray]:
    """Yield frames as uint8 RGB [size, size, 3], turned upright.

    Raises:
        UnreadableError: a frame is damaged. Its pixels would differ from run to run.
    """
    scaler = Scaler(size)
    for frame in frames:
        if frame.is_corrupt:
            raise UnreadableError("the video stream is damaged")
        if is_turned(frame):
            yield scaler(frame)
        else:
            # not the scaler, which rounds differently: clips of earlier versions keep their bytes
            yield frame.reformat(size, size, "rgb24").to_ndarray()


def encode_h264(images: Iterable[np.ndarray], rate: Fraction | int, gop: int, crf: int) -> bytes:
    """Return uint8 RGB images [H, W, 3] as H.264 in MP4. The same images give the same bytes.

    Args:
        rate: Frames per second.
        gop: Frames from one keyframe to the next.
        crf: Constant rate factor of x264; lower is better and larger.

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
            # several threads would make the bytes depend on the machine
            "threads": "1",
            "x264-params": X264_PARAMS,
        }
        num_frames = 0
        for image in images:
            if num_frames == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = num_frames
            num_frames += 1
            target.mux(stream.encode(frame))
        if num_frames == 0:
            raise UnreadableError("the video has no frames")
        # the frames that the encoder still holds
        target.mux(stream.encode())
    return sink.getvalue()


def audio_flac(content: bytes) -> bytes:
    """Return an audio file as mono FLAC at AUDIO_RATE; b"" if it has no audio stream.

    Raises:
        MediaError: it cannot be decoded.
    """
    try:
        with open_media(content, "audio", AUDIO_FORMATS) as source:
            # an mp4 that was recorded without a microphone is silent, not damaged
            return _encode_flac(source) if source.streams.audio else b""
    except UnreadableError as error:
        raise MediaError(str(error)) from error


def _encode_flac(source: InputContainer) -> bytes:
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="flac") as target:
        stream = target.add_stream("flac", rate=AUDIO_RATE, layout="mono")
        for frame in audio_frames(source, AUDIO_RATE):
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return sink.getvalue()
