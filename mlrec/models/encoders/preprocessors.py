"""The JSON files in which a checkpoint states how images and sounds are prepared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from mlrec.data.schema import AUDIO_RATE
from mlrec.models.encoders.pixels import Finite, Pixels, Positive, read_pixels
from mlrec.models.encoders.pretrained import explained, find_file
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json

NESTED_FILE = "processor_config.json"
"""Holds several preprocessors, by kind."""
MAX_BYTES = 1 << 20


def find_pixels(checkpoint: str, encoder: str, video: bool) -> tuple[Pixels, str] | None:
    """Return what the checkpoint's preprocessor does to pixels, and its file's name; None if there is no such file.

    Args:
        video: prefer the statement for videos to the one for images.

    Raises:
        ValueError: the file is invalid or states a step that mlrec does not know.
    """
    image, clip = (
        ("preprocessor_config.json", "image_processor"),
        ("video_preprocessor_config.json", "video_processor"),
    )
    order = (clip, image) if video else (image, clip)
    nested = read_document(checkpoint, NESTED_FILE, encoder) or {}
    for file, kind in order:
        if isinstance(nested.get(kind), Mapping):
            return read_pixels(
                nested[kind], f"{checkpoint}/{NESTED_FILE} ({kind})", encoder
            ), NESTED_FILE
        if content := read_document(checkpoint, file, encoder):
            return read_pixels(content, f"{checkpoint}/{file}", encoder), file
    return None


@dataclass(frozen=True)
class Loudness:
    """How log-mel values are standardised: x becomes (x - mean) / scale. The defaults are AudioSet's."""

    __pydantic_config__ = STRICT

    mean: Finite = -4.2677393
    scale: Positive = 2 * 4.5689974


@dataclass(frozen=True)
class _Sound:
    """What an audio spectrogram transformer's preprocessor states; absent keys have AudioSet's values."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    mean: Finite = -4.2677393
    std: Positive = 4.5689974
    do_normalize: bool = True
    sampling_rate: int = AUDIO_RATE
    num_mel_bins: int = 128
    max_length: int = 1024


def find_loudness(checkpoint: str, encoder: str, frames: int, mels: int) -> Loudness | None:
    """Return the statistics that the checkpoint's preprocessor states; None if it has no such file.

    Args:
        frames, mels: length and height of the spectrograms that the encoder reads.

    Raises:
        ValueError: the file is invalid, or is for other spectrograms.
    """
    nested = (read_document(checkpoint, NESTED_FILE, encoder) or {}).get("feature_extractor")
    content = nested or read_document(checkpoint, "preprocessor_config.json", encoder)
    if content is None:
        return None
    where = f"{checkpoint}/{NESTED_FILE if nested else 'preprocessor_config.json'}"
    stated = parse_json(
        json.dumps(content).encode(),
        _Sound,
        where,
        f"Set item.options.{encoder}.checkpoint to another",
    )
    needed = {"sampling_rate": AUDIO_RATE, "max_length": frames, "num_mel_bins": mels}
    for key, value in needed.items():
        if key in content and getattr(stated, key) != value:
            raise ValueError(
                f"{where}: {key} is {getattr(stated, key)}, and {encoder} reads sounds with {value}. "
                f"Set item.options.{encoder}.checkpoint or .length to fit"
            )
    return Loudness(stated.mean, 2 * stated.std) if stated.do_normalize else Loudness(0.0, 1.0)


def read_document(checkpoint: str, name: str, encoder: str) -> dict[str, Any] | None:
    """Return a JSON object of a checkpoint's folder, or None if there is no such file.

    Raises:
        ValueError: it is not a JSON object.
    """
    with explained(checkpoint, encoder):
        path = find_file(checkpoint, name)
    return None if path is None else _parse(path, f"{checkpoint}/{name}")


def _parse(path: Path, where: str) -> dict[str, Any]:
    remedy = "Download the checkpoint again"
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{where} is larger than {MAX_BYTES:,} bytes. {remedy}.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is not JSON ({printable(str(error), 100)}). {remedy}."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds a {type(content).__name__}, not an object. {remedy}.")
    return content
