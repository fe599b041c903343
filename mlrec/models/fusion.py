"""Fusion: several encoders' vectors of an item, each [n, D], to one [n, D]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


class Sum(nn.Module):
    """The sum of the vectors; of one vector, the vector itself."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(vectors)).sum(dim=0)


FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {"sum": Sum}
"""(number of vectors, D) to a module."""
