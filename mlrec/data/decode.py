"""Decode the members of samples to the media that encoders read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from PIL import Image

from mlrec.data.format import MediaInfo
from mlrec.data.media.audio import decode_audio
from mlrec.data.media.frames import FRAME_POLICIES, decode_video
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shared_buffers import BatchMemory
from mlrec.data.titles import tokenize

JPEG_BYTES_PER_PIXEL = 8
"""Most bytes of a JPEG per pixel; the finest quality takes 3."""
JPEG_SLACK_BYTES = 1 << 20
"""Additional bytes of a JPEG for comments and profiles."""
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


def decode_jpeg(
    raw: bytes, stored: int, size: int | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Return a JPEG of stored x stored pixels as uint8 [size, size, 3], scaled if necessary.

    Args:
        stored: height and width that the data set declares, compared with the header before
            anything is allocated.
        size: height and width of the result; as stored by default.
        out: where to write the result.

    Raises:
        ValueError: it has another size, or cannot be decoded.
    """
    size = stored if size is None else size
    _check_jpeg(raw, stored)
    out = np.empty((size, size, 3), dtype=np.uint8) if out is None else out
    settings = {
        "colorspace": "RGB",
        "fastdct": False,
        "fastupsample": False,
    }  # pixels equal to PIL's
    if size == stored:
        simplejpeg.decode_jpeg(raw, buffer=out, **settings)
    else:
        image = simplejpeg.decode_jpeg(raw, **settings)
        out[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return out


def _check_jpeg(raw: bytes, stored: int) -> None:
    # Bounded because a progressive JPEG takes time in proportion to its bytes times its pixels.
    if len(raw) > (limit := JPEG_SLACK_BYTES + JPEG_BYTES_PER_PIXEL * stored**2):
        raise ValueError(
            f"the image takes {len(raw):,} bytes, "
            f"more than the {limit:,} that are decoded at this size"
        )
    height, width, *_ = simplejpeg.decode_jpeg_header(raw)
    if (height, width) != (stored, stored):
        raise ValueError(
            f"the image is {width} x {height} pixels, the data set says {stored} x {stored}"
        )


def decode_clip(raw: bytes, media: MediaInfo, frames: int, size: int) -> np.ndarray:
    """Return frames of a clip as uint8 [frames, size, size, 3], chosen by the data set's policy.

    Raises:
        ValueError: its frames are larger than the data set says, or it cannot be decoded.
    """
    choose = FRAME_POLICIES[media.policy]
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
    return [f"{frame}.jpg" for frame in sorted(set(resampled(media.frames, spec.frames).tolist()))]


def _decode_video(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    if media.kind == "clip":
        out[:] = decode_clip(members["mp4"], media, spec.frames, spec.size)
        return
    stored = resampled(media.frames, spec.frames).tolist()
    for place, frame in enumerate(stored):
        if place and frame == stored[place - 1]:
            out[place] = out[place - 1]
        else:
            decode_jpeg(members[f"{frame}.jpg"], media.size, spec.size, out[place])


def _decode_cover(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    if "cover.jpg" in members:
        decode_jpeg(members["cover.jpg"], media.size, spec.size, out)
    else:
        out[:] = 0


def _decode_title(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    out[:] = tokenize(
        members["txt"].decode(errors="replace")[:MAX_TITLE_CHARACTERS], spec.length, spec.tokenizer
    )


def _decode_audio(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
    out[:] = decode_audio(members["flac"], spec.length) if "flac" in members else 0


def _decode_id(
    members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int, out: np.ndarray
) -> None:
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
}


def item_bytes(inputs: Sequence[InputSpec]) -> int:
    """Return the size of one item's decoded media."""
    decoders = [(DECODERS[spec.modality], spec) for spec in dict.fromkeys(inputs)]
    return sum(
        math.prod(decoder.shape(spec)) * decoder.dtype.itemsize for decoder, spec in decoders
    )


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
        held = {
            Modality.VIDEO: media.kind != "none",
            Modality.COVER: media.has_cover,
            Modality.AUDIO: media.has_audio,
        }
        if not held.get(spec.modality, True):
            raise ValueError(
                f"{url} holds no {spec.modality.value} of its items, but an encoder reads it; "
                "pack it with mlrec-shards make from a raw folder that does"
            )


def members_of(inputs: Sequence[InputSpec], media: MediaInfo) -> list[str]:
    """Return the names of the members that the inputs need together, without repeats."""
    names = [name for spec in inputs for name in DECODERS[spec.modality].members(spec, media)]
    return list(dict.fromkeys(names))


Decoded = tuple[dict[InputSpec, torch.Tensor], torch.Tensor, dict[int, str]]
"""Decoded media of n items.

The media by input, with zeros for bad items. bool [n]: the good items. The reasons of the bad ones.
"""


def decode_items(
    samples: Iterable[Sample],
    count: int,
    inputs: Sequence[InputSpec],
    media: MediaInfo,
    memory: BatchMemory | None = None,
) -> Decoded:
    """Return the media of `count` items, one contiguous tensor per input.

    Args:
        memory: where the tensors are allocated; None for new memory.
    """
    tensors: dict[InputSpec, torch.Tensor] = {}
    for spec in inputs:
        decoder = DECODERS[spec.modality]
        shape = (count, *decoder.shape(spec))
        tensors[spec] = (
            torch.empty(shape, dtype=decoder.dtype)
            if memory is None
            else memory.tensor(spec, shape, decoder.dtype)
        )
    arrays = {spec: tensor.numpy() for spec, tensor in tensors.items()}
    valid = np.ones(count, dtype=bool)
    bad_items: dict[int, str] = {}
    for row, (item, members) in enumerate(samples):
        try:
            if isinstance(members, str):
                raise ValueError(members)
            for spec in inputs:
                DECODERS[spec.modality].decode(members, spec, media, item, arrays[spec][row, ...])
        except ValueError as error:
            # Zero all inputs of the item: shared memory still holds an earlier batch.
            valid[row] = False
            bad_items[item] = str(error)
            for array in arrays.values():
                array[row] = 0
    return tensors, torch.from_numpy(valid), bad_items
