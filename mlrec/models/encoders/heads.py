"""Project an encoder's vectors to the recommender's width D, whitened first if the row says so."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from mlrec.config.encoder_options import Projection
from mlrec.models.dropout import Dropout

MLP_DROPOUT = 0.4
"""Dropout rate of the hidden layer of `mlp`."""
MIN_VARIANCE_SHARE = 1e-6
"""Smallest variance that whitening divides by, as a share of the largest. Directions below it hold
rounding errors, which must not be amplified."""
MIN_WHITENED_LENGTH = 0.05
"""Shortest whitened vector that is scaled to length 1; the mean length before scaling is 1. A
shorter one equals the mean of all vectors up to rounding, so it has no direction."""


def projection_head(projection: Projection, width_in: int, width: int) -> nn.Module:
    """Return a module that maps [n, width_in] to [n, width].

    Args:
        projection: `gelu` is a linear layer and GELU, as in MicroLens. `linear` preserves the
            angles between items at first. `mlp` adds to it a network of one hidden layer whose
            output starts at zero.
    """
    if projection == "gelu":
        linear = nn.Linear(width_in, width)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(linear, nn.GELU())
    # No bias: the id vectors of watched items would learn to compensate for it, and cold items,
    # whose id vectors are untrained, would be left with it.
    linear = nn.Linear(width_in, width, bias=False)
    if width_in == width:
        nn.init.eye_(linear.weight)
    else:
        nn.init.orthogonal_(linear.weight)
    return _Residual(linear) if projection == "mlp" else linear


class _Residual(nn.Module):
    """A linear layer plus a network that starts at zero."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        width_in = linear.in_features
        width = linear.out_features
        last = nn.Linear(2 * width, width, bias=False)
        nn.init.zeros_(last.weight)
        # encoders' vectors have any length; the norm brings them to the scale that the hidden
        # layer's initialization assumes
        norm = nn.LayerNorm(width_in, elementwise_affine=False)
        self.linear = linear
        self.network = nn.Sequential(
            norm, nn.Linear(width_in, 2 * width), nn.GELU(), Dropout(MLP_DROPOUT), last
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.linear(vectors) + self.network(vectors)
        return projected


class Whitening(nn.Module):
    """A fixed map that centers vectors, equalizes their variances and scales them to length 1.

    A direction of variance v is divided by v^(power / 2). Encoders put most of the variance into a
    few directions, which say little about what distinguishes items (Su et al., Whitening Sentence
    Representations for Better Semantics and Faster Retrieval, 2021).
    """

    def __init__(self, vectors: np.ndarray, power: float) -> None:
        """Fit the map to vectors.

        Args:
            vectors: [n, width], or [n, K, width] for a map of each of K vectors per item.
            power: 1 gives all directions the same variance, 0 leaves them unchanged.
        """
        super().__init__()
        if vectors.ndim == 2:
            mean, matrix = _fit_whitening(vectors, power)
        else:
            maps = [_fit_whitening(row, power) for row in vectors.swapaxes(0, 1)]
            mean = np.stack([mean for mean, _ in maps])
            matrix = np.stack([matrix for _, matrix in maps])
        self.mean: torch.Tensor
        self.matrix: torch.Tensor
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("matrix", torch.from_numpy(matrix).float())

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        centered = vectors.float() - self.mean
        if centered.ndim == 3:
            whitened = torch.einsum("nkx,kxy->nky", centered, self.matrix)
        else:
            whitened = centered @ self.matrix
        # the mean length is 1 here
        return normalize(whitened, dim=-1, eps=MIN_WHITENED_LENGTH).to(vectors.dtype)


def _fit_whitening(vectors: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [width] and the matrix [width, width] that whiten vectors [n, width]."""
    # in fp64, because small variances become large factors below
    mean = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - mean
    variances, axes = np.linalg.eigh(centered.T @ centered / len(centered))
    # all vectors may be equal
    largest = variances[-1] if variances[-1] > 0 else 1.0
    scales = np.maximum(variances / largest, MIN_VARIANCE_SHARE) ** (-power / 2)
    # Rotated back to the original axes, because the sign of a principal component differs
    # between machines.
    matrix = (axes * scales) @ axes.T
    mean_length = np.linalg.norm(centered @ matrix, axis=1).mean()
    if mean_length > 0:
        matrix = matrix / mean_length
    return mean, matrix
