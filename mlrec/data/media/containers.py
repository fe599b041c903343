"""Open untrusted video and audio files within bounds, with errors that depend on their bytes alone.

FFmpeg would read playlists that name other files and URLs, allocate any size that a header names,
and put memory addresses in its errors. Here it only reads the container formats listed below. Sizes
are checked before decoding, decoding uses one thread, and every failure has one of a few reasons.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

MAX_FRAME_PIXELS = 10_000_000
"""Most pixels of a video frame: 4K has 8.8 million.

A decoder may hold 16 frames of 6 bytes a pixel.
"""
MAX_AUDIO_S = 3600
"""Longest audio in seconds: an hour at 16 kHz takes 115 MB."""
AUDIO_RATES_HZ = range(4_000, 768_001)
MAX_CHANNELS = 64

CLIP_FORMATS = "mov"
VIDEO_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,m4v,h264,hevc,av1,obu,ivf,nut,"
    "mxf,dv,rm"
)
AUDIO_FORMATS = (
    "wav,flac,mp3,aac,ogg,mov,matroska,avi,mpegts,mpeg,flv,asf,aiff,caf,au,amr,ac3,eac3,w64,wv,"
    "ape,tta,rm"
)
"""FFmpeg's demuxers of self-contained files; playlists (hls, dash, concat) read other files."""


class UnreadableError(ValueError):
    """A media file that cannot be read; the reason is the same on every run and machine."""


@contextmanager
def open_media(
    source: str | bytes, kind: str, formats: str, max_pixels: int = MAX_FRAME_PIXELS
) -> Iterator[InputContainer]:
    """Open a media file as `open_container` does; errors while it is open get a fixed reason."""
    with open_container(source, kind, formats, max_pixels) as container, fixed_reasons(kind):
        yield container


def open_container(
    source: str | bytes, kind: str, formats: str, max_pixels: int = MAX_FRAME_PIXELS
) -> InputContainer:
    """Return an open media file.

    Args:
        source: path, or the file's bytes.
        kind: "video" or "audio", for the reasons.
        formats: demuxers that may read it, as in VIDEO_FORMATS.
        max_pixels: frames with more are not decoded.

    Raises:
        UnreadableError: the file is of another format, or it is damaged.
    """
    import av

    # max_pixels also bounds the decoders that FFmpeg tries while it opens the file.
    options = {"format_whitelist": formats, "max_pixels": str(max_pixels), "threads": "1"}
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return av.open(opened, "r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, IndexError, OverflowError) as error:
        raise UnreadableError(
            f"the file is damaged, or of a format that is not read as {kind}"
        ) from error


@contextmanager
def fixed_reasons(kind: str) -> Iterator[None]:
    """Raise UnreadableError with a fixed reason for errors of demuxers and decoders."""
    import av

    try:
        yield
    except UnreadableError:
        raise
    except (av.error.FFmpegError, ValueError, IndexError, OverflowError) as error:
        raise UnreadableError(f"the {kind} stream is damaged") from error


def video_stream(container: InputContainer, max_pixels: int = MAX_FRAME_PIXELS) -> av.VideoStream:
    """Return the video stream that FFmpeg selects, to be decoded on one thread.

    Of several, it is the default one, then the one with the largest frames. Cover pictures are no
    videos.

    Raises:
        UnreadableError: there is none, its codec is unknown, or its frames are too large.
    """
    streams = []
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            streams.append(stream)
    if not streams:
        raise UnreadableError("the file has no video stream")
    stream = max(streams, key=_rank)
    if stream.codec_context is None:
        raise UnreadableError("the codec of the video stream is not supported")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise UnreadableError(
            f"the video is {width} x {height} pixels, more than the {max_pixels:,} that are decoded"
        )
    # A stream may declare one size and hold another, so the decoder checks again.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    stream.codec_context.thread_count = 1
    return stream


def _rank(stream: av.VideoStream) -> tuple[bool, int]:
    context = stream.codec_context
    num_pixels = 0 if context is None else context.width * context.height
    return bool(stream.disposition & stream.disposition.default), num_pixels


def decoded_frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield all frames of a video in the order in which a player shows them.

    A recording that was cut begins with packets that need earlier ones, and ends with an incomplete
    one. Players skip these.

    Raises:
        InvalidDataError: a packet in between is damaged.
    """
    import av

    has_frames = False
    damage: av.error.InvalidDataError | None = None
    for packet in container.demux(stream):
        # an empty packet marks the end: the decoder then returns the frames that it still holds
        if damage is not None and packet.size:
            raise damage
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            damage = error if has_frames else None
            continue
        has_frames = has_frames or bool(frames)
        yield from frames


def audio_frames(container: InputContainer, rate: int) -> Iterator[av.AudioFrame]:
    """Yield the first audio stream as frames of int16 mono samples at `rate` Hz.

    Raises:
        UnreadableError: there is no audio stream, its rate or channels are out of bounds, or it
            lasts more than MAX_AUDIO_S.
    """
    import av

    if not container.streams.audio:
        raise UnreadableError("the file has no audio stream")
    stream = container.streams.audio[0]
    context = stream.codec_context
    _check_audio(context)
    context.thread_count = 1
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    samples = 0
    # None at the end flushes the samples that the resampler still holds.
    for decoded in chain(container.decode(stream), [None]):
        _check_audio(context if decoded is None else decoded)
        for frame in resampler.resample(decoded):
            samples += frame.samples
            if samples > MAX_AUDIO_S * rate:
                raise UnreadableError(f"the audio lasts more than {MAX_AUDIO_S:,} s")
            yield frame


def _check_audio(audio: av.AudioFrame | av.AudioCodecContext) -> None:
    # Bounded because resampling multiplies: a second at 1 Hz is one sample, and 16,000 after it.
    channels = audio.layout.nb_channels
    if audio.sample_rate not in AUDIO_RATES_HZ or not 1 <= channels <= MAX_CHANNELS:
        raise UnreadableError(f"the audio has {channels} channels at {audio.sample_rate} Hz")
