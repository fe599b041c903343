"""Decoders of the members of samples, one per modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mlrec.data.format import MediaInfo
from mlrec.data.jpeg_slots import LENGTH_BYTES, clear_slot, decode_slots, write_slot
from mlrec.data.media.audio import decode_audio
from mlrec.data.media.frames import decode_video
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media.policies import COUNT_POLICIES
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.titles import tokenize
from mlrec.storage.npy import read_npy

MAX_TITLE_CHARACTERS = 100_000
"""Only this much of a title is tokenized; tokenizers take time in proportion to all of it."""


def _copy_to_device(media: torch.Tensor, spec: InputSpec, device: torch.device) -> torch.Tensor:
    return media.to(device, non_blocking=True)


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
    """Shape of one item's media as the loader delivers them."""
    dtype: torch.dtype
    to_device: Callable[[torch.Tensor, InputSpec, torch.device], torch.Tensor] = _copy_to_device
    """(media of n items, input, device) to what the encoder reads, on the device."""


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


def _keep_frames(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    names = _video_members(spec, media)
    for name, slot in zip(names, out, strict=True):
        write_slot(members[name], media.size, slot)


def _keep_cover(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    if "cover.jpg" in members:
        write_slot(members["cover.jpg"], media.size, out[0])
    else:
        clear_slot(out[0])


def _jpeg_slots_shape(spec: InputSpec) -> tuple[int, ...]:
    assert spec.jpegs is not None
    return (spec.jpegs.count, LENGTH_BYTES + spec.jpegs.most_bytes)


def _decode_slots(media: torch.Tensor, spec: InputSpec, device: torch.device) -> torch.Tensor:
    assert spec.jpegs is not None
    positions = resampled(spec.jpegs.count, spec.frames).tolist()
    images = decode_slots(media, spec.jpegs, positions, spec.size, device)
    return images.view(len(media), *DECODERS[spec.modality].shape(spec))


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

JPEG_DECODERS: dict[Modality, Decoder] = {
    Modality.VIDEO: Decoder(
        members=_video_members,
        decode=_keep_frames,
        shape=_jpeg_slots_shape,
        dtype=torch.uint8,
        to_device=_decode_slots,
    ),
    Modality.COVER: Decoder(
        members=lambda spec, media: ["cover.jpg"],
        decode=_keep_cover,
        shape=_jpeg_slots_shape,
        dtype=torch.uint8,
        to_device=_decode_slots,
    ),
}
"""Readers of inputs with `jpegs`, which leave the decoding to the device."""


def decoder_of(spec: InputSpec) -> Decoder:
    """Return the reader of an input."""
    return DECODERS[spec.modality] if spec.jpegs is None else JPEG_DECODERS[spec.modality]
