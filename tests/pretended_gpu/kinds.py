"""Kinds of operations that a GPU treats in its own way."""

from __future__ import annotations

import torch

aten = torch.ops.aten

READS = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
}
"""Operations whose result, or its size, the host reads."""
RANDOM = {
    aten.bernoulli,
    aten.bernoulli_,
    aten.multinomial,
    aten.native_dropout,
    aten.normal,
    aten.normal_,
    aten.rand,
    aten.randint,
    aten.randn,
    aten.random_,
    aten.randperm,
    aten.uniform_,
}
"""Operations that draw from the device's generator."""
INDEXING = {
    aten._index_put_impl_,
    aten._unsafe_index,
    aten.index,
    aten.index_put,
    aten.index_put_,
}
"""Operations that accept places in host memory and copy them, for which the host waits."""
