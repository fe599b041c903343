"""Decode the members of samples to the media that encoders read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mlrec.data.format import MediaInfo
from mlrec.data.media.audio import decode_audio
from mlrec.data.media.frames import decode_video
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media.policies import COUNT_POLICIES
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.titles import tokenize
from mlrec.storage.npy import read_npy

MAX_TITLE_CHARACTERS = 100_000
"""Only this much of a title is tokenized; tokenizers take time in proportion to all of it."""


@dataclass(frozen=True)
class Decoder:
    """Reader of one modality."""

    members: Callable[[InputSpec, MediaInfo], list[str]]
    """Names of the members that an input needs."""
    decode: Callable[[Mapping[str, bytes], InputSpec, MediaInfo, int, np.ndarray], None]
    """(members, input, what the data set holds, item id, where to write one item's media).

    Raises:
        ValueError: the bytes cannot be decoded.
    """
    shape: Callable[[InputSpec], tuple[int, ...]]
    """Shape of one item's media."""
    dtype: torch.dtype


def decode_clip(raw: bytes, media: MediaInfo, frames: int, size: int) -> np.ndarray:
    """Return frames of a clip as uint8 [frames, size, size, 3], chosen by the data set's policy.

    Raises:
        ValueError: its frames are larger than the data set says, or it cannot be decoded.
    """
    choose = COUNT_POLICIES[media.policy]
    return decode_video(
        raw, lambda length: choose(length, frames, media.interval), size, media.size
    )


def resampled(available: int, frames: int) -> np.ndarray:
    """Return T evenly spaced positions in `available` stored frames, int64 [T].

    Positions repeat if T is larger than `available`.
    """
    return ((np.arange(frames) + 0.5) * available / frames).astype(np.int64)


def _video_members(spec: InputSpec, media: MediaInfo) -> list[str]:
    if media.kind == "clip":
        return ["mp4"]
    # Positions repeat if the input has more frames than are stored: each member is read once.
    positions = np.unique(resampled(media.frames, spec.frames)).tolist()
    return [f"{position}.jpg" for position in positions]


def _decode_video(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    if media.kind == "clip":
        out[:] = decode_clip(members["mp4"], media, spec.frames, spec.size)
        return
    stored = resampled(media.frames, spec.frames).tolist()
    for place, frame in enumerate(stored):
        # Positions ascend, so a repeated frame follows its first occurrence: decode it only once.
        if place and frame == stored[place - 1]:
            out[place] = out[place - 1]
        else:
            decode_jpeg(members[f"{frame}.jpg"], media.size, spec.size, out[place])


def _decode_cover(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    # Written explicitly: `out` may be memory that still holds an earlier step.
    if "cover.jpg" in members:
        decode_jpeg(members["cover.jpg"], media.size, spec.size, out)
    else:
        out[:] = 0


def _decode_title(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    # A title with a few broken bytes still has words, so it does not make the item bad.
    title = members["txt"].decode(errors="replace")
    out[:] = tokenize(title[:MAX_TITLE_CHARACTERS], spec.length, spec.tokenizer)


def _decode_audio(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    # An item without a sound track is silent, not bad.
    out[:] = decode_audio(members["flac"], spec.length) if "flac" in members else 0


def _decode_features(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    name = f"{spec.name}.npy"
    if name not in members:
        # The encoder has refused or accepted such items when it was built.
        out[:] = 0
        return
    vector = read_npy(members[name], np.float32, ndim=1)
    if len(vector) != spec.length or not np.isfinite(vector).all():
        raise ValueError(f"{name} is not a vector of {spec.length} finite values")
    out[:] = vector


def _decode_id(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    # One item's array of ids has no axis, so `[:]` would fail.
    out[...] = item


DECODERS: dict[Modality, Decoder] = {
    Modality.ID: Decoder(
        members=lambda spec, media: [],
        decode=_decode_id,
        shape=lambda spec: (),
        dtype=torch.int64,
    ),
    Modality.VIDEO: Decoder(
        members=_video_members,
        decode=_decode_video,
        shape=lambda spec: (spec.frames, spec.size, spec.size, 3),
        dtype=torch.uint8,
    ),
    Modality.COVER: Decoder(
        members=lambda spec, media: ["cover.jpg"],
        decode=_decode_cover,
        shape=lambda spec: (spec.size, spec.size, 3),
        dtype=torch.uint8,
    ),
    Modality.TITLE: Decoder(
        members=lambda spec, media: ["txt"],
        decode=_decode_title,
        shape=lambda spec: (2, spec.length),
        dtype=torch.int64,
    ),
    Modality.AUDIO: Decoder(
        members=lambda spec, media: ["flac"],
        decode=_decode_audio,
        shape=lambda spec: (spec.length,),
        dtype=torch.int16,
    ),
    Modality.FEATURES: Decoder(
        members=lambda spec, media: [f"{spec.name}.npy"],
        decode=_decode_features,
        shape=lambda spec: (spec.length,),
        dtype=torch.float32,
    ),
}


def item_shape(spec: InputSpec) -> tuple[tuple[int, ...], torch.dtype]:
    """Return shape and dtype of one item's media."""
    decoder = DECODERS[spec.modality]
    return decoder.shape(spec), decoder.dtype


def item_bytes(inputs: Sequence[InputSpec]) -> int:
    """Return the size of one item's decoded media."""
    num_bytes = 0
    # Encoders with equal inputs share one tensor.
    for spec in dict.fromkeys(inputs):
        shape, dtype = item_shape(spec)
        num_bytes += math.prod(shape) * dtype.itemsize
    return num_bytes


def check_inputs(inputs: Sequence[InputSpec], media: MediaInfo, url: str) -> None:
    """Check that the data set holds the modalities of all inputs.

    Raises:
        ValueError: the data set does not hold what an input reads.
    """
    for spec in inputs:
        if spec.modality not in DECODERS:
            raise ValueError(
                f"the stream cannot read the modality {spec.modality.value!r}; "
                f"it reads {', '.join(DECODERS)}"
            )
        # Every data set has ids and titles: the catalogue holds them.
        held = {
            Modality.VIDEO: media.kind != "none",
            Modality.COVER: media.has_cover,
            Modality.AUDIO: media.has_audio,
            Modality.FEATURES: media.features.get(spec.name) == spec.length,
        }
        if not held.get(spec.modality, True):
            raise ValueError(
                f"{url} holds no {spec.modality.value} of its items, but an encoder reads it; "
                "pack it with mlrec-shards make from a raw folder that does"
            )


def members_of(inputs: Sequence[InputSpec], media: MediaInfo) -> list[str]:
    """Return the names of the members that the inputs need together, without repeats."""
    names: list[str] = []
    for spec in inputs:
        names += DECODERS[spec.modality].members(spec, media)
    # A dict keeps the order and drops repeats. A set would order names differently on each run.
    return list(dict.fromkeys(names))


class Decoded(NamedTuple):
    """Decoded media of n items."""

    media: dict[InputSpec, torch.Tensor]
    """Media [n, ...] by input, with zeros for bad items."""
    valid_n: torch.Tensor
    """bool: the items that could be decoded."""
    bad_items: dict[int, str]
    """Reasons of the other items, by item id."""


def decode_items(
    samples: Iterable[Sample], count: int, inputs: Sequence[InputSpec], media: MediaInfo
) -> Decoded:
    """Return the media of `count` items, one contiguous tensor per input."""
    decoded = Decoded({}, torch.ones(count, dtype=torch.bool), {})
    for spec in inputs:
        decoded.media[spec] = empty_media(spec, count)
    decode_rows(samples, range(count), inputs, decoded, media)
    return decoded


def empty_media(spec: InputSpec, count: int) -> torch.Tensor:
    """Return memory for the media of `count` items, with arbitrary content."""
    shape, dtype = item_shape(spec)
    return torch.empty((count, *shape), dtype=dtype)


def decode_rows(
    samples: Iterable[Sample],
    rows: Iterable[int],
    inputs: Sequence[InputSpec],
    decoded: Decoded,
    media: MediaInfo,
) -> None:
    """Decode these inputs of the samples to the given rows of `decoded`."""
    # Views of the same memory: the decoders below write straight into the tensors.
    arrays = {spec: decoded.media[spec].numpy() for spec in inputs}
    # Strict, so that the samples' iterator runs to its end after the last row.
    for row, (item, members) in zip(rows, samples, strict=True):
        try:
            if isinstance(members, str):
                raise ValueError(members)
            for spec in inputs:
                # With the ellipsis the row of a one-dimensional array is a view, not a number.
                out = arrays[spec][row, ...]
                DECODERS[spec.modality].decode(members, spec, media, item, out)
        except ValueError as error:
            # Zero all inputs of the item: the memory may still hold an earlier step.
            # Other errors than ValueError are not the item's fault, so they end the run.
            decoded.valid_n[row] = False
            decoded.bad_items[item] = str(error)
            for array in arrays.values():
                array[row] = 0
