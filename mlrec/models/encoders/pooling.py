"""Reduce an item's K vectors, such as those of stages or frames, to one.

Shape letters: n items, K vectors per item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mlrec.models.encoders.side_network import SidePooling


class MeanPooling(nn.Module):
    """Average the vectors: [n, K, width] to [n, width]."""

    def __init__(self, num_rows: int, width: int) -> None:
        del num_rows, width  # the mean fits any
        super().__init__()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.mean(dim=1)


class MixPooling(nn.Module):
    """Learn one weight per row for all items; the softmax of the weights starts as the mean.

    Peters et al., Deep Contextualized Word Representations, 2018.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        del width  # a weight belongs to a whole vector
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_rows))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        weights_K = self.logits.softmax(dim=0)
        mixed: torch.Tensor = torch.einsum("k,nkw->nw", weights_K.to(vectors.dtype), vectors)
        return mixed


POOLINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "mean": MeanPooling,
    "mix": MixPooling,
    "side": SidePooling,
}
"""Every pooling by the name that `item.options.ENCODER.pooling` uses. Its arguments are the number
of rows (K) and their width."""
