"""Chunks of a step's items: which rows of the batch the item tower encodes together, and how.

Every rank runs the same number of chunks of each kind, because under ZeRO-3 all ranks must run the
same modules equally often. A rank with few items has empty chunks, which run on one blank item.

The schedule is pure: it depends on tensors in host memory and on the ranks' agreed maxima alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from mlrec.data.decode import blank_item, media_to_device
from mlrec.data.schema import InputSpec
from mlrec.runtime.distributed import max_over_ranks, num_ranks, shares, to_device


class Counts(NamedTuple):
    """Numbers of items of each kind: of one rank, or the largest of any rank."""

    new: int
    cached: int
    uncached: int


NO_ITEMS = Counts(0, 0, 0)


@dataclass(frozen=True)
class ItemGroups:
    """A rank's items of a step by how they are encoded: rows of the batch, ascending, int64."""

    new: torch.Tensor
    """Items to add to the cache before anything is encoded."""
    cached: torch.Tensor
    """Items to encode from the cache, the new ones among them."""
    uncached: torch.Tensor
    """Items to encode from their media, through all stages."""

    @property
    def counts(self) -> Counts:
        """Number of items in each group."""
        return Counts(len(self.new), len(self.cached), len(self.uncached))


@dataclass(frozen=True)
class ChunkSchedule:
    """The chunks of a step with an activation cache, in the order in which they run."""

    new: list[torch.Tensor]
    cached: list[torch.Tensor]
    uncached: list[torch.Tensor]


class ChunkInputs(NamedTuple):
    """What the item tower encodes a chunk from, on the device."""

    media: Mapping[InputSpec, torch.Tensor]
    activations: Mapping[int, Sequence[torch.Tensor]] | None = None
    """Cached activations by the encoder's index; None to run all stages."""


def group_items(valid_O: torch.Tensor, in_cache_O: torch.Tensor, room: int) -> ItemGroups:
    """Return how a rank encodes its items.

    Args:
        valid_O: items that could be read, bool.
        in_cache_O: items whose activations are cached already, bool.
        room: number of items to add to the cache at most.
    """
    # the first ones in the batch, so that all runs with the same plan cache the same items
    new = torch.nonzero(valid_O & ~in_cache_O).flatten()[:room]
    from_cache_O = in_cache_O.clone()
    from_cache_O[new] = True
    cached = torch.nonzero(from_cache_O).flatten()
    uncached = torch.nonzero(~from_cache_O).flatten()
    return ItemGroups(new, cached, uncached)


def largest_counts(counts: Counts, device: torch.device) -> Counts:
    """Return the largest counts of any rank; collective.

    On several ranks the host waits for the device.
    """
    if num_ranks() == 1:
        return counts
    return Counts(*max_over_ranks(to_device(torch.tensor(counts), device)).tolist())


def schedule_chunks(
    groups: ItemGroups, most: Counts, chunk_size: int, steady_items: int
) -> ChunkSchedule:
    """Return the chunks of one rank.

    Args:
        most: the largest counts of any rank.
        steady_items: minimum number of items for which a step runs chunks; 0 outside training.
    """
    # From the second epoch on all items are cached. Then, and only then, all steps run the same
    # modules.
    most_cached = most.cached
    if most.cached and not most.uncached:
        most_cached = max(most.cached, steady_items)
    # A step in which no rank has an item still runs one chunk: the tower's parameters need a
    # gradient.
    most_uncached = most.uncached if most.cached else max(1, most.uncached)
    return ChunkSchedule(
        new=split_evenly(groups.new, most.new, chunk_size),
        cached=split_evenly(groups.cached, most_cached, chunk_size),
        uncached=split_evenly(groups.uncached, most_uncached, chunk_size),
    )


def split_evenly(rows: torch.Tensor, most: int, chunk_size: int) -> list[torch.Tensor]:
    """Return `rows` in chunks of nearly equal size; some may be empty.

    Args:
        most: the largest number of rows of any rank, which decides the number of chunks.
    """
    if not most:
        return []
    num_chunks = -(-most // chunk_size)
    # sizes that differ by at most one: no rank waits long for another one's larger chunk
    return list(torch.split(rows, list(shares(len(rows), num_chunks))))


def media_of_rows(
    media: Mapping[InputSpec, torch.Tensor], rows: torch.Tensor, device: torch.device
) -> dict[InputSpec, torch.Tensor]:
    """Return the media of items on `device`, decoded; of one blank item where there are none.

    Args:
        rows: ascending, int64.
    """
    on_device = {}
    for spec, tensor in media.items():
        if not len(rows):
            on_device[spec] = blank_item(spec, tensor.dtype, device)
        elif int(rows[-1]) - int(rows[0]) + 1 == len(rows):
            # Neighbouring rows are a view. A view of pinned memory is copied without blocking.
            view = tensor[int(rows[0]) : int(rows[-1]) + 1]
            on_device[spec] = media_to_device(view, spec, device)
        else:
            on_device[spec] = media_to_device(_gathered_rows(tensor, rows, device), spec, device)
    return on_device


def gather_rows(tensor: torch.Tensor, rows_n: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return rows of a tensor in host memory as a copy on `device`; the host does not wait."""
    return _gathered_rows(tensor, rows_n, device).to(device, non_blocking=True)


def _gathered_rows(
    tensor: torch.Tensor, rows_n: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return a copy of rows in host memory, from which `device` copies without blocking."""
    # Written to pinned memory at once, which to_device would copy to.
    pinned = device.type == "cuda"
    gathered = torch.empty((len(rows_n), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=pinned)
    torch.index_select(tensor, 0, rows_n, out=gathered)
    return gathered


def keys_of_rows(keys_O: torch.Tensor, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the row keys for dropout of these rows, int64 on `device`.

    The blank item of an empty chunk needs a key as well, whichever.
    """
    keys = keys_O if len(keys_O) else keys_O.new_zeros(1)
    return gather_rows(keys, rows if len(rows) else rows.new_zeros(1), device)
