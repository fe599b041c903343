"""The options of an encoder in `item.options`, with types and bounds."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from mlrec.config.bounds import (
    AdaptedStages,
    AdapterRank,
    AdapterScale,
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


class LoraOptions(TypedDict, total=False):
    """The adapters of item.tuning=lora; DEFAULTS in mlrec/models/lora.py has the defaults."""

    rank: AdapterRank
    """Rank of the update of a weight matrix."""
    alpha: AdapterScale
    """Factor of the update, which is divided by the rank."""
    stages: AdaptedStages
    """Number of stages with adapters, counted from the deepest; 0 for all. The stages before them
    are cached."""
    targets: tuple[str, ...]
    """Ends of the names of linear layers with adapters, such as query; none for all layers."""
    dora: bool
    """Whether a matrix's direction and magnitude are trained apart (DoRA)."""


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
    lora: LoraOptions
    lr: LearningRate | None
    weight_decay: WeightDecay | None
    projection: Projection
    pooling: Pooling
    side: SideOptions
    dropout: ShareBelowAll
    whiten: Share
    features: str
    missing: Literal["error", "zeros"]
