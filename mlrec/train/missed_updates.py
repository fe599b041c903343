"""AdamW's updates of weights without a gradient, summed up so that many are applied at once.

AdamW moves every weight in every update. Without a gradient the moments decay, and the weight
follows the first moment and the weight decay. Let m and v be the moments of a weight's last update
with a gradient, and number the later ones j = 1, 2, ... With t updates in the run they amount to

    w <- keep x w - m x sum over j of a_j / (sqrt(v) + eps x b_j)
    keep = product of 1 - lr x weight decay
    a_j = lr x sqrt(1 - beta2^t) / (1 - beta1^t) x (beta1 / sqrt(beta2))^j x later factors of keep
    b_j = sqrt(1 - beta2^t) / sqrt(beta2)^j

keep, a_j and b_j are the same for all weights with the same last update, but sqrt(v) differs from
weight to weight. Two terms replace the sum. They have the same sums of a, a x b, a / b and a / b^2,
so that the limits for small and for large v are right, and the slopes there. Where gradients are
far above eps, only the sum of a counts, and the result is exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from mlrec.runtime.distributed import to_device

MAX_MISSED = 1024
"""Number of updates for which sums are kept, after which all rows must catch up."""
SMALLEST_SPREAD = 1e-5
"""Relative standard deviation of b_j below which rounding exceeds it."""

_POWERS = np.arange(-2, 2)[:, None]
"""Powers of b_j in the sums."""


class Pull(NamedTuple):
    """Two terms a / (sqrt(v) + b) that replace the sum over missed updates; fp32 [n, 1] each."""

    a_low: torch.Tensor
    b_low: torch.Tensor
    a_high: torch.Tensor
    b_high: torch.Tensor

    def at(self, root: torch.Tensor) -> torch.Tensor:
        """Return the factor on the first moment for square roots [n, D] of the second one."""
        return self.a_low / (root + self.b_low) + self.a_high / (root + self.b_high)


class CatchUp(NamedTuple):
    """Numbers by which n rows catch up, fp32 [n, 1] each."""

    keep: torch.Tensor
    """Factor on the weight."""
    first: torch.Tensor
    """Factor on the first moment."""
    second: torch.Tensor
    """Factor on the second moment."""
    pull: Pull
    average_keep: torch.Tensor
    """Factor of the moving average on itself."""
    average_weight: torch.Tensor
    """Factor of the moving average on the weight."""
    average_pull: Pull


class MissedUpdates:
    """Sums over the updates that a row has missed, by the row's last update.

    Invariant: entry i of every array is about rows whose last update was the i-th that was counted,
    or the state at the start for i = 0. Rows of entry `now` have missed nothing.
    """

    def __init__(self, betas: tuple[float, float], eps: float) -> None:
        """
        Args:
            betas: the first is below the second.
        """
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.now = 0
        self._keep = np.ones(MAX_MISSED + 1)
        self._sums = np.zeros((len(_POWERS), MAX_MISSED + 1))
        self._average_keep = np.ones(MAX_MISSED + 1)
        self._average_weight = np.zeros(MAX_MISSED + 1)
        self._average_sums = np.zeros((len(_POWERS), MAX_MISSED + 1))

    @property
    def is_full(self) -> bool:
        """Whether no further update can be counted."""
        return self.now == MAX_MISSED

    def count(self, lr: float, weight_decay: float, update: int) -> None:
        """Count an update. Rows that take part in it have entry `now` afterwards.

        Args:
            update: number of the update in the run, from 1.
        """
        missed = self.now + 1 - np.arange(self.now + 1)
        self.now += 1
        past = slice(0, self.now)
        # a_j x b_j^k in one power of j, which neither overflows nor loses small terms.
        root = math.sqrt(1 - self.beta2**update)
        factors = lr / (1 - self.beta1**update) * root ** (1 + _POWERS)
        ratios = self.beta1 / self.beta2 ** ((1 + _POWERS) / 2)
        decay = 1 - lr * weight_decay
        self._keep[past] *= decay
        self._sums[:, past] *= decay
        self._sums[:, past] += factors * ratios**missed

    def count_average(self, decay: float) -> None:
        """Count the update of the moving averages that follows the update counted last."""
        past = slice(0, self.now)
        self._average_keep[past] *= decay
        self._average_weight[past] *= decay
        self._average_weight[past] += (1 - decay) * self._keep[past]
        self._average_sums[:, past] *= decay
        self._average_sums[:, past] += (1 - decay) * self._sums[:, past]

    def columns(self, device: torch.device) -> torch.Tensor:
        """Return the numbers of CatchUp for each entry, fp32 [now + 1, 13]."""
        entries = slice(0, self.now + 1)
        missed = self.now - np.arange(self.now + 1)
        columns = [
            self._keep[entries],
            self.beta1**missed,
            self.beta2**missed,
            *self._terms(self._sums[:, entries]),
            self._average_keep[entries],
            self._average_weight[entries],
            *self._terms(self._average_sums[:, entries]),
        ]
        return to_device(torch.from_numpy(np.stack(columns, axis=1)).float(), device)

    def _terms(self, sums: np.ndarray) -> list[np.ndarray]:
        """Return the columns of Pull: Gauss quadrature with two nodes for the weights a / b^2."""
        total = sums[0]
        is_used = total > 0
        mean, second, third = np.where(is_used, sums[1:] / np.where(is_used, total, 1.0), 1.0)
        variance = np.maximum(second - mean**2, (SMALLEST_SPREAD * mean) ** 2)
        skew = (third - 3 * mean * second + 2 * mean**3) / (2 * variance)
        spread = np.sqrt(skew**2 + variance)
        low = mean + skew - spread
        high = mean + skew + spread
        share = (high - mean) / (high - low)
        a_low = total * share * low**2
        a_high = total * (1 - share) * high**2
        return [a_low, self.eps * low, a_high, self.eps * high]


def catch_up_of(columns: torch.Tensor, last_n: torch.Tensor) -> CatchUp:
    """Return the numbers for rows by their last updates.

    Args:
        columns: as MissedUpdates.columns returns them.
        last_n: entries of the rows, whole numbers.
    """
    # Each column as [n, 1], next to rows [n, D].
    by_row = columns[last_n.long()].unsqueeze(2).unbind(1)
    keep, first, second, *rest = by_row
    average_keep, average_weight = rest[4:6]
    return CatchUp(
        keep, first, second, Pull(*rest[:4]), average_keep, average_weight, Pull(*rest[6:])
    )
