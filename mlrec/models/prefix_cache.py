"""The frozen prefixes that a rank keeps, in host memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from mlrec.data.schema import InputSpec, Kept
from mlrec.models.prefix import Prefix


class PrefixCache:
    """The kept prefixes of one rank: of the first items that come, as many as the budget holds.

    None is replaced, so that the loader's workers know what is here without asking.
    """

    def __init__(
        self,
        prefixes: Mapping[int, Prefix],
        inputs: frozenset[InputSpec],
        budget_bytes: int,
        dtype: torch.dtype,
        catalogue_size: int,
    ) -> None:
        """
        Args:
            prefixes: by the encoder's place in the item tower.
            inputs: what only encoders with a prefix read.
            dtype: of the activations.

        Raises:
            ValueError: the budget holds no item.
        """
        self.prefixes, self.catalogue_size = dict(prefixes), catalogue_size
        leaves = [leaf for prefix in prefixes.values() for leaf in prefix.leaves]
        shapes = [
            ((leaf.rows, *leaf.shape), dtype if leaf.dtype.is_floating_point else leaf.dtype)
            for leaf in leaves
        ]
        self.item_bytes = sum(math.prod(shape) * kind.itemsize for shape, kind in shapes)
        if budget_bytes < self.item_bytes:
            raise ValueError(
                f"item.prefix_cache_bytes is {budget_bytes}, less than the {self.item_bytes} of one item"
            )
        self.kept = Kept(inputs, capacity=min(catalogue_size, budget_bytes // self.item_bytes))
        self.rows_N1 = torch.full((catalogue_size + 1,), -1)
        """int64: where an item's prefix is, -1 for nowhere."""
        self._count = 0
        self._stores = [_untouched((self.kept.capacity, *shape), kind) for shape, kind in shapes]

    @property
    def room(self) -> int:
        """How many more items can be kept."""
        return self.kept.capacity - self._count

    def has(self, items_n: torch.Tensor) -> torch.Tensor:
        """bool [n]: the items whose prefixes are here."""
        return self.rows_N1[items_n] >= 0

    def add(self, items_n: torch.Tensor, media: Mapping[InputSpec, torch.Tensor]) -> None:
        """Runs the prefixes on the media of items that are not kept yet; without items only runs them, on whatever there is."""
        kept = [
            tensor
            for prefix in self.prefixes.values()
            for tensor in prefix.run(media[prefix.encoder.spec])
        ]
        rows = slice(self._count, self._count + len(items_n))
        for store, tensor in zip(self._stores, kept, strict=True):
            store[rows] = tensor[: len(items_n)].to(store)
        self.rows_N1[items_n] = torch.arange(rows.start, rows.stop)
        self._count = rows.stop

    def take(self, rows_n: torch.Tensor, device: torch.device) -> dict[int, list[torch.Tensor]]:
        """What is kept in the rows, by the encoder's place, as copies on `device`."""
        stores = iter(self._stores)
        return {
            place: [rows_on(next(stores), rows_n, device) for _ in prefix.leaves]
            for place, prefix in self.prefixes.items()
        }

    def room_in_words(self, ranks: int) -> str:
        """What the budget of all ranks holds, in words behind a comma."""
        share = min(1.0, self.kept.capacity * ranks / self.catalogue_size)
        if share == 1:
            size = self.catalogue_size * self.item_bytes / ranks
            return f"; frozen prefixes of all items are kept as they are encoded, {size / 1e6:,.1f} MB a rank"
        return (
            f"; item.prefix_cache_bytes holds the frozen prefixes of {share:.0%} of the items, {self.item_bytes / 1e6:,.2f} MB "
            "each; the rest go through all stages in each step"
        )


def rows_on(tensor: torch.Tensor, rows_n: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Rows of a tensor in host memory, as a copy on `device`."""
    # gathered into pinned memory, which a GPU copies while the host goes on; torch gives it to no other use before that is done
    pinned = device.type == "cuda"
    rows = torch.empty((len(rows_n), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=pinned)
    return torch.index_select(tensor, 0, rows_n, out=rows).to(device, non_blocking=True)


def _untouched(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros that cost no memory before they are written; torch's own would."""
    raw = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)
