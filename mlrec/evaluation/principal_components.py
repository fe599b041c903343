"""Principal components of vectors that arrive in blocks.

Shape letters: n vectors of a block, X their width, P number of components.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MAX_PCA_WIDTH = 1 << 14
"""Largest width of the vectors; their covariance takes 2 GiB then, and minutes to decompose."""


@dataclass(frozen=True)
class PrincipalComponents:
    """A map from vectors to their first principal components."""

    mean_X: np.ndarray
    """float64."""
    axes_XP: np.ndarray
    """float64: orthonormal columns by falling variance. The largest value of each is positive."""
    explained_variance: float
    """Share of the variance that the components hold."""

    def __call__(self, vectors_nX: np.ndarray) -> np.ndarray:
        """Return the components of vectors, float64 [n, P]."""
        components_nP: np.ndarray = (vectors_nX - self.mean_X) @ self.axes_XP
        return components_nP


def fit_principal_components(
    blocks: Iterable[np.ndarray], width: int, num_components: int
) -> PrincipalComponents:
    """Fit principal components to the vectors of all blocks.

    Args:
        blocks: float16 or float32 [n, X]; at least one vector in all.
        width: X.
        num_components: P, at most X.
    """
    # Sums in fp64, one block at a time, so that memory holds no fp64 copy of all vectors. The
    # vectors have about length 1, so subtracting the mean afterwards loses no digits that count.
    count = 0
    sum_X = np.zeros(width)
    products_XX = np.zeros((width, width))
    for block in blocks:
        vectors_nX = block.astype(np.float64)
        count += len(vectors_nX)
        sum_X += vectors_nX.sum(axis=0)
        products_XX += vectors_nX.T @ vectors_nX
    mean_X = sum_X / count
    covariance_XX = products_XX / count - np.outer(mean_X, mean_X)
    variances_X, axes_XX = np.linalg.eigh(covariance_XX)
    # eigh sorts by rising variance
    axes_XP = axes_XX[:, ::-1][:, :num_components]
    total = variances_X.sum()
    kept = variances_X[::-1][:num_components].sum()
    share = kept / total if total > 0 else 1.0
    # rounding may give tiny negative variances
    return PrincipalComponents(mean_X, _with_fixed_signs(axes_XP), float(np.clip(share, 0, 1)))


def _with_fixed_signs(axes_XP: np.ndarray) -> np.ndarray:
    """Return the axes, flipped where their largest value is negative.

    The sign of an eigenvector is arbitrary, and differs between libraries and machines.
    """
    largest_P = np.abs(axes_XP).argmax(axis=0)
    signs_P = np.sign(axes_XP[largest_P, np.arange(axes_XP.shape[1])])
    flipped_XP: np.ndarray = axes_XP * signs_P
    return flipped_XP
