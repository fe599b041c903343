"""From an encoder's vectors to the recommender's width."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from mlrec.config.encoder_options import Projection
from mlrec.models.dropout import Dropout

DROPOUT = 0.4
"""Of the hidden layer of `mlp`."""
FLAT = 1e-6
"""Directions with less than this share of the largest variance hold rounding errors, which are not to be blown up."""
AT_THE_MEAN = 0.05
"""A whitened vector that is shorter, where the mean length is 1, is the mean but for rounding: it has no direction."""


def projection_head(projection: Projection, width_in: int, width: int) -> nn.Module:
    """A linear layer and GELU, as MicroLens has it; or a linear one that at first keeps the angles between items.

    `mlp` is the latter and beside it a network of one hidden layer, which adds nothing at first.
    """
    if projection == "gelu":
        linear = nn.Linear(width_in, width)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(linear, nn.GELU())
    # without a bias, which the id vectors of watched items learn to make up for and cold items would be left with
    linear = nn.Linear(width_in, width, bias=False)
    keep_angles = nn.init.eye_ if width_in == width else nn.init.orthogonal_
    keep_angles(linear.weight)
    return _Residual(linear) if projection == "mlp" else linear


class _Residual(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        width_in, width = linear.in_features, linear.out_features
        last = nn.Linear(2 * width, width, bias=False)
        nn.init.zeros_(last.weight)
        # whatever their length, the vectors come at the scale that a hidden layer's first weights are made for
        norm = nn.LayerNorm(width_in, elementwise_affine=False)
        self.linear = linear
        self.network = nn.Sequential(
            norm, nn.Linear(width_in, 2 * width), nn.GELU(), Dropout(DROPOUT), last
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(vectors) + self.network(vectors)
        return found


class Whitening(nn.Module):
    """Vectors about their mean, a direction of variance v divided by v^(power / 2), each then of length 1; fixed.

    Encoders put most of the variance into a few directions, which say little of what sets items apart (Su et al., Whitening
    Sentence Representations for Better Semantics and Faster Retrieval, 2021).
    """

    def __init__(self, vectors: np.ndarray, power: float) -> None:
        """
        Args:
            vectors: [n, width], what the map is fitted to.
            power: 1 gives all directions the same variance, 0 leaves them theirs.
        """
        super().__init__()
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        largest = variances[-1] if variances[-1] > 0 else 1.0  # all vectors may be the same
        scales = np.maximum(variances / largest, FLAT) ** (-power / 2)
        # back on the axes that the vectors came in, for the sign of a principal component is the machine's choice
        matrix = (axes * scales) @ axes.T
        length = np.linalg.norm(centred @ matrix, axis=1).mean()
        self.mean: torch.Tensor
        self.matrix: torch.Tensor
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer(
            "matrix", torch.from_numpy(matrix / length if length > 0 else matrix).float()
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        whitened = (vectors.float() - self.mean) @ self.matrix  # of length 1 in the mean
        return normalize(whitened, dim=-1, eps=AT_THE_MEAN).to(vectors.dtype)
