"""The JSON files in which a checkpoint states how images and audio are prepared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict

from mlrec.data.format import AUDIO_RATE
from mlrec.models.encoders.pixels import Finite, Pixels, Positive, read_pixels
from mlrec.models.encoders.pretrained import explained, find_file
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json

NESTED_FILE = "processor_config.json"
"""Name of the file that holds several preprocessors, by kind."""
IMAGE_FILE = "preprocessor_config.json"
VIDEO_FILE = "video_preprocessor_config.json"
AUDIO_FILE = "preprocessor_config.json"
MAX_DOCUMENT_BYTES = 1 << 20
"""Upper bound of a preprocessor's file in bytes; published ones have a few kB."""


class PixelStatement(NamedTuple):
    """The pixel preprocessing that a checkpoint states."""

    pixels: Pixels
    file: str
    """Name of the checkpoint's file that states it."""


def find_pixels(checkpoint: str, encoder: str, video: bool) -> PixelStatement | None:
    """Return the pixel preprocessing that the checkpoint states; None if it has no such file.

    Args:
        video: prefer the statement for videos to the one for images.

    Raises:
        ValueError: the file is invalid or has a step that mlrec does not know.
    """
    remedy = f"Set item.options.{encoder}.mean and .std to use these instead of the file"
    # names of a preprocessor's own file and of its key in the nested one
    sources = [(IMAGE_FILE, "image_processor"), (VIDEO_FILE, "video_processor")]
    if video:
        # the image file stays as a fallback: VideoMAE and others have no other one
        sources.reverse()
    # first, because recent versions of transformers write one file for all preprocessors
    nested = read_document(checkpoint, NESTED_FILE, encoder) or {}
    for file, kind in sources:
        content = nested.get(kind)
        if isinstance(content, Mapping):
            where = f"{checkpoint}/{NESTED_FILE} ({kind})"
            return PixelStatement(read_pixels(content, where, remedy), NESTED_FILE)
        content = read_document(checkpoint, file, encoder)
        if content:
            return PixelStatement(read_pixels(content, f"{checkpoint}/{file}", remedy), file)
    return None


@dataclass(frozen=True)
class Loudness:
    """Standardization of log-mel values: x becomes (x - mean) / scale. Defaults are AudioSet's."""

    __pydantic_config__ = STRICT

    mean: Finite = -4.2677393
    scale: Positive = 2 * 4.5689974


@dataclass(frozen=True)
class _AudioStatement:
    """An audio spectrogram transformer's preprocessor; absent keys have AudioSet's values."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    mean: Finite = -4.2677393
    std: Positive = 4.5689974
    do_normalize: bool = True
    sampling_rate: int = AUDIO_RATE
    num_mel_bins: int = 128
    max_length: int = 1024


def find_loudness(checkpoint: str, encoder: str, frames: int, mels: int) -> Loudness | None:
    """Return the standardization that the checkpoint states; None if it has no such file.

    Args:
        frames: length of the spectrograms that the encoder reads.
        mels: height of these spectrograms.

    Raises:
        ValueError: the file is invalid, or is for other spectrograms.
    """
    file = NESTED_FILE
    content = (read_document(checkpoint, NESTED_FILE, encoder) or {}).get("feature_extractor")
    if not content:
        file = AUDIO_FILE
        content = read_document(checkpoint, AUDIO_FILE, encoder)
    if content is None:
        return None
    where = f"{checkpoint}/{file}"
    remedy = f"Set item.options.{encoder}.checkpoint to another"
    statement = parse_json(json.dumps(content).encode(), _AudioStatement, where, remedy)
    needed = {"sampling_rate": AUDIO_RATE, "max_length": frames, "num_mel_bins": mels}
    for key, value in needed.items():
        # a key that the file does not state cannot contradict
        if key in content and getattr(statement, key) != value:
            raise ValueError(
                f"{where}: {key} is {getattr(statement, key)}, and {encoder} reads audio with "
                f"{value}. Set item.options.{encoder}.checkpoint or .length to fit"
            )
    if not statement.do_normalize:
        return Loudness(0.0, 1.0)
    # the published extractor divides by twice the standard deviation
    return Loudness(statement.mean, 2 * statement.std)


def read_document(checkpoint: str, name: str, encoder: str) -> dict[str, Any] | None:
    """Return a JSON object of a checkpoint's folder, or None if there is no such file.

    Raises:
        ValueError: the file is not a JSON object.
    """
    with explained(checkpoint, encoder):
        path = find_file(checkpoint, name)
    return None if path is None else _parse(path, f"{checkpoint}/{name}")


def _parse(path: Path, where: str) -> dict[str, Any]:
    remedy = "Download the checkpoint again"
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise ValueError(f"{where} is larger than {MAX_DOCUMENT_BYTES:,} bytes. {remedy}.")
    try:
        content = json.loads(path.read_bytes())
    # json raises RecursionError for deeply nested documents
    except (ValueError, RecursionError) as error:
        reason = printable(str(error), 100)
        raise ValueError(f"{where} is not JSON ({reason}). {remedy}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds a {type(content).__name__}, not an object. {remedy}.")
    return content
