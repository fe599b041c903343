"""Which rank owns which items: every rank has one run of neighbouring ids, so that a node reads few shards."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from mlrec.config import DataConfig
from mlrec.data.format import Catalogue
from mlrec.runtime.distributed import shares


@dataclass(frozen=True)
class Owners:
    """Cuts sorted items into one run per rank; a pure function, the same on all ranks."""

    nodes: tuple[int, ...]
    """Ranks of each node; ranks are numbered node by node."""
    first_items: tuple[int, ...] = ()
    """The lowest id at home on each node but the first; empty to cut without regard to homes."""
    slack: float = 0.0
    """How much more than its equal share a node may own so that its items stay at home."""

    @property
    def world_size(self) -> int:
        """W: the number of ranks."""
        return sum(self.nodes)

    def split(self, items: np.ndarray) -> tuple[int, ...]:
        """owned_W: how many of the sorted `items` each rank owns, in the order of the ranks.

        Nodes whose run is too long give its end to their neighbour, so that it is always the same few shards that two nodes read.
        Ranks of a node differ by at most one item.
        """
        if not self.first_items:
            return shares(len(items), self.world_size)
        ends = [*np.searchsorted(items, self.first_items).tolist(), len(items)]
        equal = [len(items) * ranks / self.world_size for ranks in self.nodes]
        limits = [ceil(share) + int(self.slack * share) for share in equal]
        start = 0
        for node, limit in enumerate(limits):  # what is too much moves on to the next node,
            start = ends[node] = min(ends[node], start + limit)
        end = len(items)
        for node in reversed(range(len(limits))):  # and from the last one back
            ends[node] = max(ends[node], end)
            end = ends[node] - limits[node]
        starts = [0, *ends[:-1]]
        return tuple(
            owned
            for ranks, start, end in zip(self.nodes, starts, ends, strict=True)
            for owned in shares(end - start, ranks)
        )


def owners_of(
    config: DataConfig,
    catalogue: Catalogue,
    num_users: int,
    global_batch: int,
    nodes: tuple[int, ...],
) -> Owners:
    """The owners that data.ownership asks for.

    With `home` whole shards belong to a node, in runs of neighbouring shards of nearly equal load: the expected number of a
    step's distinct items, 1 - exp(-G c / users) for an item with c training interactions.
    """
    if config.ownership == "balanced" or len(nodes) == 1:
        return Owners(nodes)
    items = np.flatnonzero(catalogue.shard_N1 >= 0)
    shards = catalogue.shard_N1[items]
    loads = -np.expm1(-global_batch * catalogue.popularity_N1[items] / num_users)
    ends = np.concatenate([[0.0], np.cumsum(np.bincount(shards, weights=loads))])
    first_item = np.searchsorted(shards, np.arange(len(ends)))
    wanted = ends[-1] * np.cumsum(nodes)[:-1] / sum(nodes)
    cuts = [int(np.abs(ends - load).argmin()) for load in wanted]
    beyond = len(catalogue.shard_N1)
    first_items = [
        int(items[first_item[cut]]) if first_item[cut] < len(items) else beyond for cut in cuts
    ]
    return Owners(nodes, tuple(first_items), config.balance_slack)
