"""Pixel preprocessing, from the JSON file in which a checkpoint's preprocessor states it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import ConfigDict, Field

from mlrec.models.encoders.base import Normalize
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import STRICT, parse_json

# Bounds of numbers in JSON files. They keep normalized pixels finite in fp32.
Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Length = Annotated[int, Field(ge=1, le=1 << 14)]
Triple = tuple[Finite, Finite, Finite]
PositiveTriple = tuple[Positive, Positive, Positive]

Refuse = Callable[[str, str], ValueError]
"""From a key and a reason to the error that names the file, the key's value and the remedy."""

_STEPS = """
crop_pct crop_size do_center_crop do_flip_channel_order do_normalize do_rescale do_resize image_mean
image_std offset resample rescale_factor size
"""
_HARMLESS = """
data_format device disable_grouping do_convert_rgb do_sample_frames feature_extractor_type fps
frames_per_clip image_processor_type input_data_format num_frames processor_class return_metadata
return_tensors use_fast video_metadata video_processor_type
"""
_KNOWN_KEYS = frozenset((_STEPS + _HARMLESS).split())
"""Keys that are applied below or have no effect on uint8 RGB images. Keys that start with "_"
are transformers' own."""
_UNSTATED_STEPS = ("Levit", "Perceiver", "EfficientNet")
"""Prefixes of processors whose files do not state how they resize, crop or normalize."""
_CROPPED_BELOW_PX = 384
"""Size below which ConvNext's processor resizes images to size / crop_pct and crops them. It only
resizes larger ones."""


@dataclass(frozen=True)
class Pixels:
    """Steps from uint8 RGB images to a model's input; a run's pixels.json holds these fields."""

    __pydantic_config__ = STRICT

    mean: Triple
    """Mean of values from 0 to 1."""
    std: PositiveTriple
    """Standard deviation of values from 0 to 1: a pixel x becomes (x / 255 - mean) / std."""
    size: Annotated[int, Field(ge=0, le=1 << 14)] = 0
    """Height and width that the model reads; 0 if the preprocessor's file does not state it."""
    resized: Annotated[int, Field(ge=0, le=1 << 14)] = 0
    """Height and width before the center crop to `size`; equal to it without cropping."""
    bgr: bool = False
    """True if the channels are reversed."""

    def of_size(self, size: int) -> Pixels:
        """Return the steps for images of another size, with the same share of them cropped."""
        # for example a crop of 224 from 256 becomes a crop of 112 from 128
        resized = round(size * self.resized / self.size) if self.size else size
        return Pixels(self.mean, self.std, size, max(size, resized), self.bgr)


class PixelValues(Normalize):
    """uint8 pixels [..., resized, resized, 3] to values [..., 3, size, size], on the device."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__(pixels.mean, pixels.std)
        self.pixels = pixels

    def forward(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        size = self.pixels.size
        if self.pixels.resized != size:
            start = (self.pixels.resized - size) // 2
            stop = start + size
            pixels = pixels[..., start:stop, start:stop, :]
        if self.pixels.bgr:
            pixels = pixels.flip(-1)
        return super().forward(pixels, dtype)


@dataclass(frozen=True)
class _Statement:
    """Keys of a preprocessor's file that affect pixels, with the defaults of most processors."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    do_rescale: bool = True
    rescale_factor: Annotated[float, Field(ge=1e-6, le=1e6)] = 1 / 255
    offset: bool = False
    """True if 1 is subtracted after rescaling (ViViT)."""
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


def read_pixels(content: Mapping[str, Any], where: str, remedy: str) -> Pixels:
    """Return the steps that a preprocessor applies to uint8 RGB images of the size it resizes to.

    Args:
        content: the preprocessor's JSON document.
        where: the file, for messages.
        remedy: what the user should do about a key, as a sentence without its full stop.

    Raises:
        ValueError: a key is invalid, or states a step that cannot be reproduced; names file, key
            and remedy.
    """
    kind = str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")
    content = _with_defaults_of(kind, content)

    def refuse(key: str, why: str) -> ValueError:
        value = printable(repr(content.get(key)), 60)
        return ValueError(f"{where}: {key} is {value}, {why}. {remedy}.")

    _check_keys(content, kind, refuse)
    statement = parse_json(json.dumps(content).encode(), _Statement, where, remedy)
    is_mobilevit = kind.startswith("MobileViT")
    if statement.do_flip_channel_order and (statement.do_normalize or not is_mobilevit):
        raise refuse(
            "do_flip_channel_order", "which of transformers' processors only MobileViT's obeys"
        )
    if statement.offset and not statement.do_rescale:
        raise refuse("offset", "and do_rescale is false, which transformers rejects too")
    statistics = _statistics(statement, refuse)
    geometry = _geometry(statement, refuse)
    return Pixels(
        mean=statistics.mean,
        std=statistics.std,
        size=geometry.size,
        resized=geometry.resized,
        bgr=bool(statement.do_flip_channel_order),
    )


def _check_keys(content: Mapping[str, Any], kind: str, refuse: Refuse) -> None:
    """Check that every step of the file is known.

    Raises:
        ValueError: a key is unknown and set, or the processor has steps that no key states.
    """
    for key, value in content.items():
        is_known = key in _KNOWN_KEYS or key.startswith("_")
        # a step that is switched off needs no support
        is_off = value in (None, False, 0, "", [], {})
        if not is_known and not is_off:
            raise refuse(printable(key, 60), "a step that mlrec does not know")
    if kind.startswith(_UNSTATED_STEPS):
        raise refuse("image_processor_type", "whose steps mlrec does not know")


def _with_defaults_of(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with defaults that only this processor has."""
    # ViViT subtracts 1 after rescaling unless its file says otherwise
    complete = {"offset": kind.startswith("Vivit"), **content}
    if kind.startswith("MobileViT") and complete.get("do_normalize") is None:
        complete["do_normalize"] = False
    return complete


class _Statistics(NamedTuple):
    """Mean and standard deviation per channel, of values from 0 to 1."""

    mean: Triple
    std: PositiveTriple


def _statistics(statement: _Statement, refuse: Refuse) -> _Statistics:
    """Return mean and standard deviation with the file's rescaling included."""
    if statement.do_normalize and statement.image_mean is None:
        raise refuse("image_mean", "and do_normalize is not false")
    if statement.do_normalize and statement.image_std is None:
        raise refuse("image_std", "and do_normalize is not false")
    means = _three(statement.image_mean if statement.do_normalize else 0.0)
    stds = _three(statement.image_std if statement.do_normalize else 1.0)
    # The file means (rescale_factor * x - offset - mean) / std. Dividing numerator and denominator
    # by 255 * rescale_factor gives Pixels' form, (x / 255 - mean') / std'.
    factor = 255 * (statement.rescale_factor if statement.do_rescale else 1.0)
    red, green, blue = ((mean + statement.offset) / factor for mean in means)
    std = (stds[0] / factor, stds[1] / factor, stds[2] / factor)
    return _Statistics((red, green, blue), std)


def _three(value: Any) -> Triple:
    """Return one value per channel."""
    return value if isinstance(value, tuple) else (value, value, value)


class _Geometry(NamedTuple):
    """Height and width in pixels of square images; 0 if the file does not state them."""

    size: int
    """What the model reads."""
    resized: int
    """Before the crop."""


def _geometry(statement: _Statement, refuse: Refuse) -> _Geometry:
    """Return the image sizes after and before the crop."""
    size = 0
    if statement.do_resize:
        size = _square(statement.size, "size", refuse)
    crop = 0
    if statement.do_center_crop is not False:
        crop = _square(statement.crop_size, "crop_size", refuse)
    # only ConvNext's processor has crop_pct, and it has no other crop
    if statement.crop_pct is not None:
        if statement.do_center_crop:
            raise refuse("crop_pct", "and do_center_crop is true: mlrec knows only one of them")
        if size < _CROPPED_BELOW_PX:
            return _Geometry(size, int(size / statement.crop_pct))
        return _Geometry(size, size)
    if statement.do_center_crop and not crop:
        raise refuse("crop_size", "and do_center_crop is true")
    # the processor's own default decides whether it crops, and mlrec does not know it
    if statement.do_center_crop is None and crop not in (0, size):
        raise refuse("do_center_crop", "and crop_size is not size")
    if size and size < crop:
        raise refuse("crop_size", f"which is larger than size, {size}: the images would be padded")
    return _Geometry(crop or size, size or crop)


def _square(value: Any, key: str, refuse: Refuse) -> int:
    """Return the edge of a square size in any of transformers' notations; 0 for null."""
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
