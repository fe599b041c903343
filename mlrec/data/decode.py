"""Decode the members of samples to the media that encoders read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from mlrec.data.decoders import DECODERS, JPEG_DECODERS, decoder_of
from mlrec.data.format import Catalogue, MediaInfo
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec, JpegSlots, Modality


def with_jpegs(
    inputs: Sequence[InputSpec], media: MediaInfo, catalogue: Catalogue, url: str
) -> tuple[InputSpec, ...]:
    """Return the inputs with those that are stored as JPEGs left to the device to decode.

    Raises:
        ValueError: an input reads clips.
    """
    changed = []
    for spec in inputs:
        if spec.modality is Modality.VIDEO and media.kind == "clip":
            raise ValueError(
                f"data.decode_on is device, and {url} holds clips: only JPEGs are decoded on the "
                "device. Set data.decode_on=host, or pack the videos as frames "
                "(mlrec-shards make --media frames)"
            )
        if spec.modality in JPEG_DECODERS:
            names = DECODERS[spec.modality].members(spec, media)
            jpegs = JpegSlots(len(names), media.size, catalogue.largest_member(names))
            spec = replace(spec, jpegs=jpegs)
        changed.append(spec)
    return tuple(changed)


def media_to_device(media: torch.Tensor, spec: InputSpec, device: torch.device) -> torch.Tensor:
    """Return media of n items as the encoder reads them, on the device."""
    return decoder_of(spec).to_device(media, spec, device)


def blank_item(spec: InputSpec, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return zeros on the device in the shape that an encoder reads of one item."""
    return torch.zeros((1, *DECODERS[spec.modality].shape(spec)), dtype=dtype, device=device)


def item_shape(spec: InputSpec) -> tuple[tuple[int, ...], torch.dtype]:
    """Return shape and dtype of one item's media."""
    decoder = decoder_of(spec)
    return decoder.shape(spec), decoder.dtype


def item_bytes(inputs: Sequence[InputSpec]) -> int:
    """Return the size of one item's media in host memory."""
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
        names += decoder_of(spec).members(spec, media)
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
                decoder_of(spec).decode(members, spec, media, item, out)
        except ValueError as error:
            # Zero all inputs of the item: the memory may still hold an earlier step.
            # Other errors than ValueError are not the item's fault, so they end the run.
            decoded.valid_n[row] = False
            decoded.bad_items[item] = str(error)
            for array in arrays.values():
                array[row] = 0
