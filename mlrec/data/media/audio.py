"""Decode the audio members of samples."""

from __future__ import annotations

import numpy as np

from mlrec.data.format import AUDIO_RATE
from mlrec.data.media.containers import audio_frames, open_media


def decode_audio(raw: bytes, length: int) -> np.ndarray:
    """Return the middle `length` samples of a FLAC file, int16, mono at AUDIO_RATE.

    Shorter audio is padded with zeros at its end.

    Raises:
        UnreadableError: the bytes cannot be decoded.
    """
    with open_media(raw, "audio", "flac") as container:
        frames = [frame.to_ndarray()[0] for frame in audio_frames(container, AUDIO_RATE)]
    samples = np.concatenate(frames) if frames else np.zeros(0, np.int16)
    # Decoded whole, because only then the middle is known. MAX_AUDIO_S bounds the length.
    start = max(0, len(samples) - length) // 2
    middle = samples[start : start + length]
    return np.pad(middle, (0, length - len(middle)))
