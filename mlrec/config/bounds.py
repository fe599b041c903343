"""Bounds of numbers, written into a field's type: `seed: Annotated[int, Between(0, 9)]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

INT64 = (1 << 63) - 1
FLOAT32 = 1e38
"""Close below the largest float32, in which weights and moments are kept."""


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`."""

    low: float
    high: float
    below_high: bool = False
    """`high` itself is too large."""

    def holds(self, value: float) -> bool:
        """Return whether `value` is one of the numbers; NaN is not."""
        return self.low <= value < self.high if self.below_high else self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low} to {'below ' if self.below_high else ''}{self.high}"


Seed = Annotated[int, Between(0, (1 << 32) - 1)]
"""What NumPy, torch and every library below them take."""
Bytes = Annotated[int, Between(0, INT64)]
Workers = Annotated[int, Between(0, 256)]
Tolerated = Annotated[int, Between(0, (1 << 31) - 1)]
Checkpoints = Annotated[int, Between(1, 1_000_000)]
Steps = Annotated[int, Between(1, 1_000_000)]
Users = Annotated[int, Between(1, 1 << 24)]
RankedUsers = Annotated[int, Between(1, 1 << 16)]
"""Scored at a time, each against the whole catalogue."""
Items = Annotated[int, Between(1, 1 << 20)]
Candidates = Annotated[int, Between(1, 1 << 13)]
"""Drawn for each position of a batch, of which there are thousands."""
Width = Annotated[int, Between(1, 1 << 13)]
"""A square matrix of this width takes 256 MB."""

LearningRate = Annotated[float, Between(0, FLOAT32)]
WeightDecay = Annotated[float, Between(0, 1e6)]
Norm = Annotated[float, Between(0, FLOAT32)]
Epsilon = Annotated[float, Between(1e-20, 1)]
"""In float32 the square of a gradient below 1e-22 is 0: less would let such a gradient change a weight by any amount."""
Decay = Annotated[float, Between(0, 1, below_high=True)]
"""Of a running mean: 1 would never forget."""
Temperature = Annotated[float, Between(1e-4, 1e4)]
Slack = Annotated[float, Between(0, 100)]

Share = Annotated[float, Between(0, 1)]
ShareBelowAll = Annotated[float, Between(0, 1, below_high=True)]

Frames = Annotated[int, Between(1, 1024)]
Pixels = Annotated[int, Between(1, 4096)]
"""Height and width of an image."""
InputLength = Annotated[int, Between(1, 16_000 * 600)]
"""Tokens of a title, or samples of ten minutes of audio."""
VectorWidth = Annotated[int, Between(1, 1 << 16)]
PixelMean = Annotated[float, Between(-1000, 1000)]
PixelStd = Annotated[float, Between(1e-6, 1000)]
