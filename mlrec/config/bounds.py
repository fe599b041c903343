"""Bounds of numbers, written into the type of a field: `seed: Annotated[int, Between(0, 9)]`.

A bound refuses values that cannot work or are certainly typing errors. It leaves room for every
value that someone may want to try.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

INT64 = (1 << 63) - 1
# a little below the largest float32, in which weights and AdamW's moments are stored
FLOAT32 = 1e38


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`."""

    low: float
    high: float
    below_high: bool = False
    """Whether `high` itself is excluded."""

    def holds(self, value: float) -> bool:
        """Return whether `value` is one of the numbers; NaN is not."""
        if self.below_high:
            return self.low <= value < self.high
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"from {self.low} to {'below ' if self.below_high else ''}{self.high}"


# the seeds that NumPy, torch and the libraries below them all take
Seed = Annotated[int, Between(0, (1 << 32) - 1)]
# sizes of files and buffers are int64 in the libraries that get them
Bytes = Annotated[int, Between(0, INT64)]
Workers = Annotated[int, Between(0, 256)]
Tolerated = Annotated[int, Between(0, (1 << 31) - 1)]
Checkpoints = Annotated[int, Between(1, 1_000_000)]
# 0 stands for no limit
Patience = Annotated[int, Between(0, 1_000_000)]
Steps = Annotated[int, Between(1, 1_000_000)]
Users = Annotated[int, Between(1, 1 << 24)]
# each is scored against the whole catalogue: 65,536 users x 1M items are 262 GB in fp32
RankedUsers = Annotated[int, Between(1, 1 << 16)]
# 0 stands for all users
SampledUsers = Annotated[int, Between(0, (1 << 31) - 1)]
# no catalogue has more items
CutOff = Annotated[int, Between(1, (1 << 31) - 1)]
Items = Annotated[int, Between(1, 1 << 20)]
# models have a few hundred at most
Stages = Annotated[int, Between(1, 1024)]
# drawn for every position of a batch, which has thousands of positions
Candidates = Annotated[int, Between(1, 1 << 13)]
# a square fp32 matrix of this width takes 256 MB
Width = Annotated[int, Between(1, 1 << 13)]

LearningRate = Annotated[float, Between(0, FLOAT32)]
# a factor of 0 would freeze stages, which is what item.tuning is for
LayerDecay = Annotated[float, Between(0.01, 1)]
WeightDecay = Annotated[float, Between(0, 1e6)]
Norm = Annotated[float, Between(0, FLOAT32)]
# In float32 the square of a gradient below 1e-22 is 0. A smaller epsilon would let AdamW divide
# such a gradient by almost nothing, and change a weight by any amount.
Epsilon = Annotated[float, Between(1e-20, 1)]
# with a decay of 1 a running mean would never take in a new value
Decay = Annotated[float, Between(0, 1, below_high=True)]
# within these bounds the softmax goes from one-hot to flat
Temperature = Annotated[float, Between(1e-4, 1e4)]
Slack = Annotated[float, Between(0, 100)]
# the rank of a full matrix is its width
AdapterRank = Annotated[int, Between(1, 1 << 12)]
AdapterScale = Annotated[int, Between(1, 1 << 16)]
# counted from the deepest; 0 stands for all
AdaptedStages = Annotated[int, Between(0, 1024)]

Share = Annotated[float, Between(0, 1)]
# a dropout of 1 would leave nothing
ShareBelowAll = Annotated[float, Between(0, 1, below_high=True)]

Frames = Annotated[int, Between(1, 1024)]
# height and width of an image
Pixels = Annotated[int, Between(1, 4096)]
# tokens of a title, or audio samples: ten minutes at 16 kHz
InputLength = Annotated[int, Between(1, 16_000 * 600)]
VectorWidth = Annotated[int, Between(1, 1 << 16)]
# wide enough for pixels from 0 to 255
PixelMean = Annotated[float, Between(-1000, 1000)]
# pixels are divided by it
PixelStd = Annotated[float, Between(1e-6, 1000)]
