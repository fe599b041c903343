"""Fusion: combine several encoders' vectors of an item, each [n, D], into one [n, D]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


class Sum(nn.Module):
    """The sum of the vectors."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        # one kernel, rather than one per encoder
        return torch.stack(list(vectors)).sum(dim=0)


class Concat(nn.Module):
    """A linear layer over the concatenated vectors."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(count * width, width)

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        fused: torch.Tensor = self.linear(torch.cat(list(vectors), dim=1))
        return fused


class Gated(nn.Module):
    """A weighted mean of the vectors, with weights from a linear layer of all of them.

    Arevalo et al., Gated Multimodal Units for Information Fusion, 2017, with softmax gates for any
    number of modalities.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(count * width, count)

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        weights = self.gates(torch.cat(list(vectors), dim=1)).softmax(dim=1)
        fused: torch.Tensor = (torch.stack(list(vectors), dim=1) * weights[..., None]).sum(dim=1)
        return fused


class FiLM(nn.Module):
    """The first vector, scaled and shifted by a linear layer of the others.

    Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, 2018.

    Raises:
        ValueError: there is one vector only.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(
                "item.fusion='film' conditions the first encoder's vector on the others, and "
                "item.encoders has one encoder. Name two or more"
            )
        self.condition = nn.Linear((count - 1) * width, 2 * width)

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        first, *others = vectors
        scale, shift = self.condition(torch.cat(others, dim=1)).chunk(2, dim=1)
        # near the identity at first, when scale and shift are small
        fused: torch.Tensor = first * (1 + scale) + shift
        return fused


FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "sum": Sum,
    "concat": Concat,
    "gated": Gated,
    "film": FiLM,
}
"""Constructors of fusions by name. They take (number of vectors, D)."""
