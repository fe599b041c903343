"""Audio members to samples."""

from __future__ import annotations

import io

import av
import numpy as np

from mlrec.schema import AUDIO_RATE


def decode_audio(raw: bytes, length: int) -> np.ndarray:
    """The middle `length` samples, int16, mono at AUDIO_RATE; a shorter audio has zeros behind it.

    Raises:
        ValueError: the bytes cannot be decoded.
    """
    try:
        with av.open(io.BytesIO(raw), "r") as source:
            if not source.streams.audio:
                raise ValueError("no audio stream")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE)
            frames = [frame for decoded in source.decode(source.streams.audio[0]) for frame in resampler.resample(decoded)]
            frames += resampler.resample(None)
    except av.error.FFmpegError as error:
        raise ValueError(f"not decodable audio: {type(error).__name__}") from error
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]) if frames else np.zeros(0, np.int16)
    start = max(0, len(samples) - length) // 2
    middle = samples[start : start + length]
    return np.pad(middle, (0, length - len(middle)))
