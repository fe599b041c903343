"""Media from Python as the tensors that encoders read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from mlrec.data.decoders import MAX_TITLE_CHARACTERS, resampled
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.titles import tokenize


def media_tensors(
    media: Mapping[str, Any], specs: Sequence[InputSpec], names: Sequence[str], model: str
) -> dict[InputSpec, torch.Tensor]:
    """Return the media of n items as the inputs of encoders.

    Args:
        media: by modality, one array or list per modality that an encoder reads:
            video uint8 [n, T, H, W, 3]; cover uint8 [n, H, W, 3]; title n texts;
            audio int16 [n, samples], mono at 16 kHz; features/NAME float32 [n, width].
            Frames are sampled evenly and images are scaled to what the encoder reads.
        specs: inputs of the encoders.
        names: names of the encoders.
        model: name of the model in messages.

    Raises:
        ValueError: a modality is missing, of another shape or dtype, or not read by any encoder.
    """
    tensors: dict[InputSpec, torch.Tensor] = {}
    readers = {_key(spec): name for spec, name in zip(specs, names, strict=True)}
    for key, name in readers.items():
        if key == Modality.ID:
            raise ValueError(
                f"Cannot encode media with {model}: {name} looks items up by their id. Use "
                "item_vectors() for the items of the data set"
            )
        if key not in media:
            raise ValueError(
                f"Cannot encode media with {model}: {name} reads {key}, which is missing. Pass "
                f"{{{key!r}: ...}}"
            )
    if unread := [key for key in media if key not in readers]:
        raise ValueError(
            f"Cannot encode media with {model}: no encoder reads {', '.join(map(repr, unread))}. "
            f"Pass {' and '.join(readers)} alone"
        )
    sizes = {key: len(media[key]) for key in readers}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{count} of {key}" for key, count in sizes.items())
        raise ValueError(f"media have different numbers of items: {counts}. Pass one of each kind")
    for spec in specs:
        key = _key(spec)
        tensors[spec] = torch.from_numpy(_READERS[spec.modality](media[key], spec, key))
    return tensors


def _key(spec: InputSpec) -> str:
    return f"features/{spec.name}" if spec.modality is Modality.FEATURES else spec.modality.value


def _array(value: Any, key: str, dtype: type[np.generic], shape: str) -> np.ndarray:
    """Return an array or tensor of the given dtype, whose shape is written as "n, H, W, 3".

    Raises:
        ValueError: it has another dtype or shape.
    """
    array = value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    letters = shape.split(", ")
    fits = array.dtype == dtype and array.ndim == len(letters)
    for size, letter in zip(array.shape, letters, strict=False):
        # a number stands for itself; n may be 0, and an item has no empty axis
        fits = fits and (size == int(letter) if letter.isdecimal() else letter == "n" or size > 0)
    if not fits:
        raise ValueError(
            f"media[{key!r}] is {array.dtype} {list(array.shape)}; "
            f"it must be {np.dtype(dtype)} [{shape}]"
        )
    return array


def _video(value: Any, spec: InputSpec, key: str) -> np.ndarray:
    video = _array(value, key, np.uint8, "n, T, H, W, 3")
    frames = video[:, resampled(video.shape[1], spec.frames)]
    scaled = _scaled(frames.reshape(-1, *frames.shape[2:]), spec.size)
    return scaled.reshape(*frames.shape[:2], spec.size, spec.size, 3)


def _cover(value: Any, spec: InputSpec, key: str) -> np.ndarray:
    return _scaled(_array(value, key, np.uint8, "n, H, W, 3"), spec.size)


def _scaled(images: np.ndarray, size: int) -> np.ndarray:
    """Return images as uint8 [n, size, size, 3], scaled as those of a data set are."""
    if images.shape[1:3] == (size, size):
        return np.ascontiguousarray(images)
    scaled = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for image, out in zip(images, scaled, strict=True):
        resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        out[:] = np.asarray(resized)
    return scaled


def _title(value: Any, spec: InputSpec, key: str) -> np.ndarray:
    if isinstance(value, str) or not all(isinstance(title, str) for title in value):
        raise ValueError(f"media[{key!r}] must be a list of texts, one title per item")
    tokens = [tokenize(t[:MAX_TITLE_CHARACTERS], spec.length, spec.tokenizer) for t in value]
    return np.stack(tokens) if tokens else np.zeros((0, 2, spec.length), dtype=np.int64)


def _audio(value: Any, spec: InputSpec, key: str) -> np.ndarray:
    samples = _array(value, key, np.int16, "n, samples")
    # the middle, or all of it and silence, as of a data set's audio
    start = max(0, samples.shape[1] - spec.length) // 2
    middle = samples[:, start : start + spec.length]
    return np.pad(middle, ((0, 0), (0, spec.length - middle.shape[1])))


def _features(value: Any, spec: InputSpec, key: str) -> np.ndarray:
    return np.ascontiguousarray(_array(value, key, np.float32, f"n, {spec.length}"))


_READERS: dict[Modality, Callable[[Any, InputSpec, str], np.ndarray]] = {
    Modality.VIDEO: _video,
    Modality.COVER: _cover,
    Modality.TITLE: _title,
    Modality.AUDIO: _audio,
    Modality.FEATURES: _features,
}
