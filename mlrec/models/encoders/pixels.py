"""What a checkpoint's preprocessor does to the pixels of an image, from the JSON file that states it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field

from mlrec.models.encoders.base import Normalize
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json

Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Length = Annotated[int, Field(ge=1, le=1 << 14)]
Triple = tuple[Finite, Finite, Finite]
PositiveTriple = tuple[Positive, Positive, Positive]

Refuse = Callable[[str, str], ValueError]

_STEPS = """
crop_pct crop_size do_center_crop do_flip_channel_order do_normalize do_rescale do_resize image_mean image_std offset
resample rescale_factor size
"""
_HARMLESS = """
data_format device disable_grouping do_convert_rgb do_sample_frames feature_extractor_type fps frames_per_clip
image_processor_type input_data_format num_frames processor_class return_metadata return_tensors use_fast video_metadata
video_processor_type
"""
_KNOWN = frozenset((_STEPS + _HARMLESS).split())
"""Keys that are honoured below, or change nothing for uint8 RGB images. Names in "_" are transformers' own."""
_OTHER_STEPS = ("Levit", "Perceiver", "EfficientNet")
"""Processors that resize, crop or normalise in a way that their files do not state."""
_CROPPED_BELOW = 384
"""ConvNext's processor resizes smaller images to size / crop_pct and crops them; larger ones it only resizes."""


@dataclass(frozen=True)
class Pixels:
    """From uint8 RGB images to what a model reads; written to a run's folder as it stands here."""

    __pydantic_config__ = STRICT

    mean: Triple
    std: PositiveTriple
    """Of values from 0 to 1: a pixel x becomes (x / 255 - mean) / std."""
    size: Annotated[int, Field(ge=0, le=1 << 14)] = 0
    """Height and width that the model reads; 0 if the checkpoint's preprocessor does not state it."""
    resized: Annotated[int, Field(ge=0, le=1 << 14)] = 0
    """Height and width before the centre of `size` is cropped; equal to it without cropping."""
    bgr: bool = False
    """Whether the channels are reversed."""

    def of_size(self, size: int) -> Pixels:
        """Return the same for images of another size, with the same share of them cropped."""
        resized = round(size * self.resized / self.size) if self.size else size
        return Pixels(self.mean, self.std, size, max(size, resized), self.bgr)


class PixelValues(Normalize):
    """uint8 pixels [..., resized, resized, 3] to values [..., 3, size, size] of a dtype, on the device."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__(pixels.mean, pixels.std)
        self.pixels = pixels

    def forward(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        size = self.pixels.size
        top = (self.pixels.resized - size) // 2
        if top or self.pixels.resized != size:
            pixels = pixels[..., top : top + size, top : top + size, :]
        return super().forward(pixels.flip(-1) if self.pixels.bgr else pixels, dtype)


@dataclass(frozen=True)
class _Statement:
    """The keys of a preprocessor's file that change pixels; absent ones have the default that most processors have."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    do_rescale: bool = True
    rescale_factor: Annotated[float, Field(ge=1e-6, le=1e6)] = 1 / 255
    offset: bool = False
    """Whether 1 is subtracted after rescaling (ViViT)."""
    do_normalize: bool = True
    image_mean: Finite | Triple | None = None
    image_std: Positive | PositiveTriple | None = None
    do_resize: bool = True
    do_center_crop: bool | None = None
    do_flip_channel_order: bool | None = None
    size: Length | tuple[Length, Length] | dict[str, Length | None] | None = None
    crop_size: Length | tuple[Length, Length] | dict[str, Length | None] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    resample: Annotated[int, Field(ge=0, le=5)] | None = None


def read_pixels(content: Mapping[str, Any], where: str, encoder: str) -> Pixels:
    """Return what a preprocessor does to uint8 RGB images that have the size it resizes to.

    Args:
        content: its JSON document.
        where: the file, for messages.

    Raises:
        ValueError: a key is invalid, or states something that cannot be reproduced; names file, key and remedy.
    """
    remedy = f"Set item.options.{encoder}.mean and .std to use these instead of the file"
    kind = str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")

    def refuse(key: str, why: str) -> ValueError:
        return ValueError(
            f"{where}: {key} is {printable(repr(content.get(key)), 60)}, {why}. {remedy}."
        )

    for key, value in content.items():
        if (
            key not in _KNOWN
            and not key.startswith("_")
            and value not in (None, False, 0, "", [], {})
        ):
            raise refuse(printable(key, 60), "a step that mlrec does not know")
    if kind.startswith(_OTHER_STEPS):
        raise refuse("image_processor_type", "whose steps mlrec does not know")
    content = {"offset": kind.startswith("Vivit"), **content}
    if kind.startswith("MobileViT") and content.get("do_normalize") is None:
        content["do_normalize"] = False
    stated = parse_json(json.dumps(content).encode(), _Statement, where, remedy)
    if stated.do_flip_channel_order and (stated.do_normalize or not kind.startswith("MobileViT")):
        raise refuse(
            "do_flip_channel_order", "which of transformers' processors only MobileViT's obeys"
        )
    if stated.offset and not stated.do_rescale:
        raise refuse("offset", "and do_rescale is false, which transformers rejects too")
    mean, std = _statistics(stated, refuse)
    size, resized = _geometry(stated, refuse)
    return Pixels(mean, std, size, resized, bgr=bool(stated.do_flip_channel_order))


def _statistics(stated: _Statement, refuse: Refuse) -> tuple[Triple, PositiveTriple]:
    """Mean and standard deviation of values from 0 to 1, so that they cover rescaling too."""
    if stated.do_normalize and stated.image_mean is None:
        raise refuse("image_mean", "and do_normalize is not false")
    if stated.do_normalize and stated.image_std is None:
        raise refuse("image_std", "and do_normalize is not false")
    means = _three(stated.image_mean if stated.do_normalize else 0.0)
    stds = _three(stated.image_std if stated.do_normalize else 1.0)
    # (factor x - offset - mean) / std  =  (x / 255 - mean') / std'
    factor = 255 * (stated.rescale_factor if stated.do_rescale else 1.0)
    red, green, blue = ((mean + stated.offset) / factor for mean in means)
    return (red, green, blue), (stds[0] / factor, stds[1] / factor, stds[2] / factor)


def _three(value: Any) -> Triple:
    return value if isinstance(value, tuple) else (value, value, value)


def _geometry(stated: _Statement, refuse: Refuse) -> tuple[int, int]:
    """Height and width that the model reads, and those before the crop; 0 for both if the file does not state them."""
    size = _square(stated.size, "size", refuse) if stated.do_resize else 0
    crop = (
        _square(stated.crop_size, "crop_size", refuse) if stated.do_center_crop is not False else 0
    )
    if stated.crop_pct is not None:  # ConvNext's processor
        if stated.do_center_crop:
            raise refuse("crop_pct", "and do_center_crop is true: mlrec knows only one of them")
        return size, int(size / stated.crop_pct) if size < _CROPPED_BELOW else size
    if stated.do_center_crop and not crop:
        raise refuse("crop_size", "and do_center_crop is true")
    if stated.do_center_crop is None and crop not in (0, size):
        raise refuse("do_center_crop", "and crop_size is not size")
    if size and size < crop:
        raise refuse("crop_size", f"which is larger than size, {size}: the images would be padded")
    return crop or size, size or crop


def _square(value: Any, key: str, refuse: Refuse) -> int:
    if value is None or isinstance(value, int):
        return value or 0
    if isinstance(value, tuple):
        value = dict(zip(("height", "width"), value, strict=True))
    edges = {name: edge for name, edge in value.items() if edge is not None}
    if set(edges) == {"shortest_edge"}:
        return int(edges["shortest_edge"])
    if set(edges) == {"height", "width"} and edges["height"] == edges["width"]:
        return int(edges["height"])
    raise refuse(key, "and mlrec's images are squares of one size")
