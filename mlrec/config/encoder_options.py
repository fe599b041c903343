"""What `item.options` may change in an encoder's row, with types and bounds."""

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
    VectorWidth,
    WeightDecay,
)

Tuning = Literal["frozen", "top", "half", "full", "scratch"]
Projection = Literal["gelu", "linear", "mlp"]


class EncoderOptions(TypedDict, total=False):
    """Each field is described in EncoderRow, whose own value it replaces."""

    width: VectorWidth
    frames: Frames
    size: Pixels
    mean: tuple[PixelMean, PixelMean, PixelMean] | None
    std: tuple[PixelStd, PixelStd, PixelStd] | None
    length: InputLength
    checkpoint: str
    config: dict[str, Any]
    output: Literal["pooled", "scores"]
    tuning: Tuning | None
    lr: LearningRate | None
    weight_decay: WeightDecay | None
    projection: Projection
    dropout: ShareBelowAll
    whiten: Share
    features: str
