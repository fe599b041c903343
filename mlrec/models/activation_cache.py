"""The activation cache: what frozen prefixes compute of a rank's items, in host memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from mlrec.data.cached_items import CachedItems
from mlrec.data.schema import InputSpec
from mlrec.models.chunks import gather_rows
from mlrec.models.prefix import Prefix


class _Layout(NamedTuple):
    """Shape and dtype of one activation of an item."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size (bytes)."""
        return math.prod(self.shape) * self.dtype.itemsize


class ActivationCache:
    """The cached activations of a rank's first items, as many as the budget holds.

    Nothing is evicted, so that loader workers may skip the media of an item from the moment its
    entry in the shared table is set.
    """

    def __init__(
        self,
        prefixes: Mapping[int, Prefix],
        skipped_inputs: frozenset[InputSpec],
        budget_bytes: int,
        dtype: torch.dtype,
        catalogue_size: int,
    ) -> None:
        """
        Args:
            prefixes: by the encoder's index in the item tower.
            skipped_inputs: inputs that only encoders with a prefix read.
            dtype: of floating-point activations.

        Raises:
            ValueError: the budget holds no item.
        """
        self.prefixes = dict(prefixes)
        self.catalogue_size = catalogue_size
        layouts = []
        for prefix in prefixes.values():
            for leaf in prefix.leaves:
                leaf_dtype = dtype if leaf.dtype.is_floating_point else leaf.dtype
                layouts.append(_Layout((leaf.rows, *leaf.shape), leaf_dtype))
        self.item_bytes = sum(layout.nbytes for layout in layouts)
        """Size of one item's activations (bytes)."""
        if budget_bytes < self.item_bytes:
            raise ValueError(
                f"item.prefix_cache_bytes is {budget_bytes}, less than the {self.item_bytes} of "
                "one item"
            )
        # more rows than items would never be filled
        self.capacity = min(catalogue_size, budget_bytes // self.item_bytes)
        """Number of items that fit."""
        self.items = CachedItems.none_of(catalogue_size, skipped_inputs)
        self._rows_N1 = torch.full((catalogue_size + 1,), -1)
        """Row of each item in the stores, int64; -1 for items that are not cached."""
        self._count = 0
        # one tensor per activation, over all items, so that a chunk is gathered in one copy
        self._stores = [_zeros((self.capacity, *layout.shape), layout.dtype) for layout in layouts]

    @property
    def room(self) -> int:
        """Number of further items that fit."""
        return self.capacity - self._count

    def has(self, items_n: torch.Tensor) -> torch.Tensor:
        """Return which items are cached, bool [n]."""
        return self._rows_N1[items_n] >= 0

    def add(self, items_n: torch.Tensor, media: Mapping[int, torch.Tensor]) -> None:
        """Run the prefixes on the media of items that are not cached yet, and cache the result.

        Without items the prefixes run on the media all the same, and nothing is cached: under
        ZeRO-3 every rank must run the same modules.

        Args:
            media: by the encoder's index.
        """
        activations: list[torch.Tensor] = []
        for index, prefix in self.prefixes.items():
            activations += prefix.run(media[index])
        # without items the prefixes ran on one blank item, of which nothing is stored
        of_items = [activation[: len(items_n)] for activation in activations]
        rows = slice(self._count, self._count + len(items_n))
        for store, activation in zip(self._stores, self._in_host_memory(of_items), strict=True):
            store[rows] = activation
        self._rows_N1[items_n] = torch.arange(rows.start, rows.stop)
        self._count = rows.stop
        # last, for loader workers stop reading the items' media from here on
        self.items.cached_N1[items_n.numpy()] = True

    def _in_host_memory(self, activations: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return activations in the dtypes of the stores; the host waits for the device once."""
        copies: list[torch.Tensor] = []
        for store, activation in zip(self._stores, activations, strict=True):
            # A GPU copies in the order of the calls: when the last copy is there, all are.
            is_last = len(copies) == len(activations) - 1
            copies.append(activation.to("cpu", store.dtype, non_blocking=not is_last))
        return copies

    def take(self, items_n: torch.Tensor, device: torch.device) -> dict[int, list[torch.Tensor]]:
        """Return copies of cached items' activations on `device`, by the encoder's index.

        Without items it is the first row, whatever that holds, for a rank that runs an empty chunk.
        """
        rows_n = self._rows_N1[items_n] if len(items_n) else torch.zeros(1, dtype=torch.int64)
        # stores are in the order of the prefixes and of their leaves, as in __init__
        stores = iter(self._stores)
        activations: dict[int, list[torch.Tensor]] = {}
        for index, prefix in self.prefixes.items():
            activations[index] = []
            for _ in prefix.leaves:
                activations[index].append(gather_rows(next(stores), rows_n, device))
        return activations

    def room_in_words(self, ranks: int) -> str:
        """Return what the budget of all ranks holds, as a clause to append after a semicolon."""
        share = min(1.0, self.capacity * ranks / self.catalogue_size)
        if share == 1:
            rank_mb = self.catalogue_size * self.item_bytes / ranks / 1e6
            return (
                "; activations of the frozen stages are cached for all items, "
                f"{rank_mb:,.1f} MB per rank"
            )
        return (
            f"; item.prefix_cache_bytes caches the frozen stages' activations of {share:.0%} of "
            f"the items, {self.item_bytes / 1e6:,.2f} MB each; the rest go through all stages in "
            "each step"
        )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return zeros that take no memory before they are written, unlike torch.zeros."""
    # numpy asks the system for zeroed pages, which exist only once they are written
    raw = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)
