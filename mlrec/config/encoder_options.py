"""The options of an encoder in `item.options`, with types and bounds."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from mlrec.config.bounds import (
    Frames,
    InputLength,
    LearningRate,
    PixelMean,
    Pixels,
    PixelStd,
    Share,
    ShareBelowAll,
    Stages,
    VectorWidth,
    WeightDecay,
    Width,
)

Tuning = Literal["frozen", "side", "lora", "top", "half", "full", "scratch"]
Projection = Literal["gelu", "linear", "mlp"]
Pooling = Literal["mean", "mix", "attention", "latent", "side"]


class SideOptions(TypedDict, total=False):
    """Options of a side network."""

    every: Stages
    """Distance between the stages whose states it uses, counted from the last; default 1."""
    width: Width
    """Width of its states; default 64."""


class EncoderOptions(TypedDict, total=False):
    """Values that replace those of an encoder's row; EncoderRow describes each field."""

    width: VectorWidth
    frames: Frames
    size: Pixels
    mean: tuple[PixelMean, PixelMean, PixelMean] | None
    std: tuple[PixelStd, PixelStd, PixelStd] | None
    length: InputLength
    checkpoint: str
    # keys of the library's own configuration, which checks them
    config: dict[str, Any]
    output: Literal["pooled", "scores"]
    tuning: Tuning | None
    lr: LearningRate | None
    weight_decay: WeightDecay | None
    projection: Projection
    pooling: Pooling
    side: SideOptions
    dropout: ShareBelowAll
    whiten: Share
    features: str
    missing: Literal["error", "zeros"]
