"""Members of a sample to the media that an encoder asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from PIL import Image

from mlrec.data.audio import decode_audio
from mlrec.data.format import MediaInfo
from mlrec.data.frames import FRAME_POLICIES, decode_video
from mlrec.data.items import Sample
from mlrec.data.titles import tokenize
from mlrec.schema import InputSpec, Modality


@dataclass(frozen=True)
class Decoder:
    """How one modality is read."""

    members: Callable[[InputSpec, MediaInfo], list[str]]
    """Names of the members that an input needs."""
    decode: Callable[[Mapping[str, bytes], InputSpec, MediaInfo, int], np.ndarray]
    """(members, input, what the data set holds, item id) to one item's media.

    Raises:
        ValueError: the bytes cannot be decoded.
    """
    shape: Callable[[InputSpec], tuple[int, ...]]
    """Shape of one item's media."""
    dtype: type


def decode_jpeg(raw: bytes, size: int) -> np.ndarray:
    """A JPEG as uint8 [size, size, 3], scaled without keeping the aspect ratio where it has another size."""
    image: np.ndarray = simplejpeg.decode_jpeg(raw, colorspace="RGB", fastdct=False, fastupsample=False)
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def resampled(available: int, frames: int) -> np.ndarray:
    """Which of the `available` stored frames stand for T frames: all in order, evenly spread or repeated. int64 [T]."""
    return ((np.arange(frames) + 0.5) * available / frames).astype(np.int64)


def _video_members(spec: InputSpec, media: MediaInfo) -> list[str]:
    if media.kind == "clip":
        return ["mp4"]
    return [f"{frame}.jpg" for frame in sorted(set(resampled(media.frames, spec.frames).tolist()))]


def _decode_video(members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int) -> np.ndarray:
    if media.kind == "clip":
        choose = FRAME_POLICIES[media.policy]
        return decode_video(members["mp4"], lambda length: choose(length, spec.frames, media.interval), spec.size)
    frames = {name: decode_jpeg(raw, spec.size) for name, raw in members.items()}
    return np.stack([frames[f"{frame}.jpg"] for frame in resampled(media.frames, spec.frames)])


def _decode_cover(members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int) -> np.ndarray:
    return decode_jpeg(members["cover.jpg"], spec.size)


def _decode_title(members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int) -> np.ndarray:
    return tokenize(members["txt"].decode(errors="replace"), spec.length, spec.tokenizer)


def _decode_audio(members: Mapping[str, bytes], spec: InputSpec, media: MediaInfo, item: int) -> np.ndarray:
    return decode_audio(members["flac"], spec.length)


DECODERS: dict[Modality, Decoder] = {
    Modality.ID: Decoder(
        members=lambda spec, media: [],
        decode=lambda members, spec, media, item: np.asarray(item, dtype=np.int64),
        shape=lambda spec: (),
        dtype=np.int64,
    ),
    Modality.VIDEO: Decoder(
        members=_video_members,
        decode=_decode_video,
        shape=lambda spec: (spec.frames, spec.size, spec.size, 3),
        dtype=np.uint8,
    ),
    Modality.COVER: Decoder(
        members=lambda spec, media: ["cover.jpg"],
        decode=_decode_cover,
        shape=lambda spec: (spec.size, spec.size, 3),
        dtype=np.uint8,
    ),
    Modality.TITLE: Decoder(
        members=lambda spec, media: ["txt"],
        decode=_decode_title,
        shape=lambda spec: (2, spec.length),
        dtype=np.int64,
    ),
    Modality.AUDIO: Decoder(
        members=lambda spec, media: ["flac"],
        decode=_decode_audio,
        shape=lambda spec: (spec.length,),
        dtype=np.int16,
    ),
}


def check_inputs(inputs: Sequence[InputSpec], media: MediaInfo, url: str) -> None:
    """
    Raises:
        ValueError: the data set does not hold what an input reads.
    """
    for spec in inputs:
        if spec.modality not in DECODERS:
            raise ValueError(f"the stream cannot read the modality {spec.modality.value!r}; it reads {', '.join(DECODERS)}")
        held = {Modality.VIDEO: media.kind != "none", Modality.COVER: media.has_cover, Modality.AUDIO: media.has_audio}
        if not held.get(spec.modality, True):
            raise ValueError(
                f"{url} holds no {spec.modality.value} of its items, but an encoder reads it; "
                "pack it with mlrec-shards make from a raw folder that does"
            )


def members_of(inputs: Sequence[InputSpec], media: MediaInfo) -> list[str]:
    """Names of the members that the inputs need together, without repeats."""
    names = [name for spec in inputs for name in DECODERS[spec.modality].members(spec, media)]
    return list(dict.fromkeys(names))


Decoded = tuple[dict[InputSpec, torch.Tensor], torch.Tensor, dict[int, str]]
"""Media of n items by input, zeros for one that could not be read or decoded; bool [n]: those that could; the others' reasons."""


def decode_items(samples: Iterable[Sample], count: int, inputs: Sequence[InputSpec], media: MediaInfo) -> Decoded:
    """Media of `count` items for every input, one contiguous tensor each."""
    arrays: dict[InputSpec, np.ndarray] = {}
    for spec in inputs:
        decoder = DECODERS[spec.modality]
        arrays[spec] = np.zeros((count, *decoder.shape(spec)), decoder.dtype)
    valid = np.ones(count, dtype=bool)
    bad_items: dict[int, str] = {}
    for row, (item, members) in enumerate(samples):
        try:
            if isinstance(members, str):
                raise ValueError(members)
            for spec in inputs:
                decoder = DECODERS[spec.modality]
                needed = {name: members[name] for name in decoder.members(spec, media)}
                arrays[spec][row] = decoder.decode(needed, spec, media, item)
        except ValueError as error:
            valid[row], bad_items[item] = False, str(error)
            for array in arrays.values():
                array[row] = 0
    return {spec: torch.from_numpy(array) for spec, array in arrays.items()}, torch.from_numpy(valid), bad_items
