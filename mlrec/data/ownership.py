"""Item ownership: every rank owns one run of neighbouring ids, so that a node reads few shards."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from mlrec.config import DataConfig
from mlrec.data.format import Catalogue
from mlrec.runtime.distributed import shares


@dataclass(frozen=True)
class Owners:
    """Rule that cuts sorted items into one run per rank. It is pure, so all ranks agree."""

    nodes: tuple[int, ...]
    """Ranks of each node; ranks are numbered node by node."""
    first_items: tuple[int, ...] = ()
    """Lowest home id of each node except the first; empty to cut into equal runs."""
    slack: float = 0.0
    """Fraction that a node may own above its equal share, to keep items at home."""

    @property
    def world_size(self) -> int:
        """W: the number of ranks."""
        return sum(self.nodes)

    def split(self, items: np.ndarray) -> tuple[int, ...]:
        """Return owned_W: how many of the sorted `items` each rank owns, in the order of the ranks.

        A node whose run is too long gives the end of it to its neighbour. So two nodes always read
        the same few shards. Ranks of a node differ by at most one item.
        """
        if not self.first_items:
            return shares(len(items), self.world_size)
        # Invariant: node k owns items[ends[k - 1] : ends[k]]. Its ranks share that run equally.
        ends = [*np.searchsorted(items, self.first_items).tolist(), len(items)]
        limits = []
        for ranks in self.nodes:
            equal_share = len(items) * ranks / self.world_size
            # Rounded up, so that the limits of all nodes together always cover the items.
            limits.append(ceil(equal_share) + int(self.slack * equal_share))
        start = 0
        # Forward: move the excess of each node to the next one.
        for node, limit in enumerate(limits):
            start = ends[node] = min(ends[node], start + limit)
        # The last node got all that was left, so its run may be longer than its limit now.
        end = len(items)
        # Backward: the last nodes may now have too much, so move that to the node before.
        for node in reversed(range(len(limits))):
            ends[node] = max(ends[node], end)
            end = ends[node] - limits[node]
        starts = [0, *ends[:-1]]
        owned_W: list[int] = []
        for num_ranks, start, end in zip(self.nodes, starts, ends, strict=True):
            owned_W.extend(shares(end - start, num_ranks))
        return tuple(owned_W)


def owners_of(
    config: DataConfig,
    catalogue: Catalogue,
    num_users: int,
    global_batch: int,
    nodes: tuple[int, ...],
) -> Owners:
    """Return the owners according to data.ownership.

    With `home`, each node is the home of a run of neighbouring whole shards, and the runs have
    nearly equal load. The load is the expected number of distinct items per step: an item with c
    training interactions adds 1 - exp(-G c / users).
    """
    if config.ownership == "balanced" or len(nodes) == 1:
        return Owners(nodes)
    # Every rank computes the same cuts from the catalogue alone, so no communication is needed.
    items = np.flatnonzero(catalogue.shard_N1 >= 0)
    shards = catalogue.shard_N1[items]
    # expm1 stays exact for rare items, where 1 - exp(-x) would round to 0.
    loads = -np.expm1(-global_batch * catalogue.popularity_N1[items] / num_users)
    # ends[s] is the load of all shards before shard s, and places[s] its first place in `items`.
    ends = np.concatenate([[0.0], np.cumsum(np.bincount(shards, weights=loads))])
    places = np.searchsorted(shards, np.arange(len(ends)))
    wanted_loads = ends[-1] * np.cumsum(nodes)[:-1] / sum(nodes)
    first_items = []
    for load in wanted_loads:
        # Cut at the shard boundary nearest to the wanted load: no shard has two home nodes.
        nearest_shard = int(np.abs(ends - load).argmin())
        place = places[nearest_shard]
        if place < len(items):
            first_items.append(int(items[place]))
        else:
            # With fewer shards than nodes, the last nodes are no home: start beyond all ids.
            first_items.append(len(catalogue.shard_N1))
    return Owners(nodes, tuple(first_items), config.balance_slack)
