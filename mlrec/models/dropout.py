"""Dropout that does not depend on how a step's work is divided.

A mask is a function of (seed, step, layer, row, column). Rows have keys made of user and position
or of the item, so any number of ranks, any chunk size, recomputed activations, cached prefixes and
resumed runs drop the same numbers. torch's own dropout draws in the order of the work instead.

Randomness has three levels, all in wrapping integer arithmetic, so CPU and GPU agree:
    key of a row    int64, splitmix64 of (seed, step, kind of rows, id)
    row of a layer  int32, the upper half of key * (odd constant of the layer)
    column          int32, row * (odd constant of the column), compared with a threshold
For a uniform row factor the masks of any two columns are independent up to 2^-32 unless small
multiples of their constants coincide.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import cached_property

import torch
from torch import nn

from mlrec.models.counter_random import mixed, random_keys
from mlrec.runtime.distributed import to_device


class RowKind(IntEnum):
    """What the rows of a tensor stand for; rows of different kinds draw independently."""

    TOWER_ITEMS = 1
    """Items in the item tower."""
    ITEMS = 2
    """Items in the recommender."""
    POSITIONS = 3
    """Positions of users' histories."""


def row_keys(kind: RowKind, ids: torch.Tensor, seed: int, step: int) -> torch.Tensor:
    """Return int64 keys, of the shape of `ids`, of one training step's rows."""
    return random_keys(ids, seed, step, kind)


class Dropout(nn.Module):
    """Zero a share `p` of the values in training and scale the others by 1 / (1 - p).

    Use it in place of `torch.nn.Dropout`. The leading dimensions of its input are those of the row
    keys that `drawing` provides. The others are columns.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.number = 0
        self.rows: _Rows | None = None

    @property
    def drops(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.p > 0

    @property
    def scale(self) -> float:
        """Factor on the values that are not dropped."""
        return 1 / (1 - self.p)

    @property
    def keys(self) -> torch.Tensor:
        """int64: keys of the rows.

        Raises:
            RuntimeError: the layer runs outside `drawing`.
        """
        if self.rows is None:
            raise RuntimeError(
                "a Dropout layer ran in training without row keys. "
                "Call the model within drawing(...)"
            )
        return self.rows.keys

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.drops:
            return values
        keys = self.keys
        if values.shape[: keys.ndim] != keys.shape:
            raise ValueError(
                f"a Dropout layer got values of shape {tuple(values.shape)} for rows of shape "
                f"{tuple(keys.shape)}. Its input must begin with the dimensions of the rows"
            )
        mask = self.mask(values.shape[keys.ndim :]).to(values.dtype)
        # the factor multiplies the values, because a mask in bf16 would round it
        return values * mask * self.scale

    def mask(self, columns: Sequence[int]) -> torch.Tensor:
        """Return int32 [*rows, *columns]: 0 for values to drop, 1 for all others."""
        keys = self.keys
        # the upper half of the product depends on all bits of the key
        row_factors = ((keys * _layer_factor(self.number)) >> 32).to(torch.int32)
        # int32 products wrap around, so the numbers are uniform over all of int32
        numbers = row_factors[..., None] * _column_factors(math.prod(columns), keys.device)
        # int32 starts at -2^31, so a share p of all numbers lies below the threshold
        threshold = round(self.p * (1 << 32)) - (1 << 31)
        return numbers.ge_(threshold).view(*keys.shape, *columns)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class RowDropout(Dropout):
    """Zero a share `p` of whole rows in training. The others are not scaled."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.mask((1,)).to(values.dtype) if self.drops else values


class _Rows:
    """Keys of rows, computed when a layer first asks for them, because many models drop nothing."""

    def __init__(self, make_keys: Callable[[], torch.Tensor]) -> None:
        self._make_keys = make_keys

    @cached_property
    def keys(self) -> torch.Tensor:
        return self._make_keys()


def dropouts_of(module: nn.Module) -> list[Dropout]:
    """Return the Dropout layers of `module`, in a fixed order."""
    return [child for child in module.modules() if isinstance(child, Dropout)]


@contextmanager
def drawing(layers: Sequence[Dropout], make_keys: Callable[[], torch.Tensor]) -> Iterator[None]:
    """Let `layers` draw for rows with these keys within the context.

    A layer's place in `layers` is its number. Enter it inside a function whose activations are
    recomputed, so that the recomputation draws the same masks.

    Args:
        make_keys: returns int64 keys, one for each row that the layers get; called at most once.
    """
    rows = _Rows(make_keys)
    # contexts nest: an outer one comes back when this one ends
    before = [(layer.number, layer.rows) for layer in layers]
    # each caller numbers its own layers: the tower's and the recommender's draw by other keys
    for number, layer in enumerate(layers):
        layer.number = number
        layer.rows = rows
    try:
        yield
    finally:
        for layer, (number, outer_rows) in zip(layers, before, strict=True):
            layer.number = number
            layer.rows = outer_rows


@functools.cache
def _layer_factor(number: int) -> int:
    """Return an odd 64-bit constant."""
    return int(mixed(torch.tensor(number + 1))) | 1


@functools.lru_cache(maxsize=64)
def _column_factors(count: int, device: torch.device) -> torch.Tensor:
    """Return odd 32-bit constants, int32 [count]."""
    factors = mixed(-1 - torch.arange(count)) >> 32 | 1
    return to_device(factors.to(torch.int32), device)
