"""The step to compare with: the global batch as MicroLens' trainer encodes it.

There each rank takes its own users with all 11 slots of each, and encodes every slot: an item as often as it occurs, padding as
zeros, frames as float32. Its candidates are its own users' items, and the ranks' mean losses are averaged.

What is compared is the encoding: both steps run the same model and optimizer, in the same chunks, hold their activations or
compute them again, as the larger of the two can (item.checkpoint), and score distinct items, which gives the number that scoring
every slot gives (loss.multiplicity) for less work than MicroLens' trainer has. On one rank the two steps' losses are equal.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from mlrec.bench.made_up import MediaPool
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import shares


class RankPlan(Plan):
    """A plan's steps over one rank's users alone, as if there were no other rank."""

    def __init__(self, plan: Plan, global_batch: int, rank: int) -> None:
        super().__init__(plan.table, plan.seed, global_batch, Owners((1,)))
        self._plan, self._rank = plan, rank

    def users(self, step: int) -> np.ndarray:
        users_G, ranks = self._plan.users(step), self._plan.owners.world_size
        sizes = shares(len(users_G), ranks)
        start = sum(sizes[: self._rank])
        return users_G[start : start + sizes[self._rank]]


def slots_of(batch: Batch) -> torch.Tensor:
    """The training sequences of the batch's users as positions in U, int64 [B, T], -1 for padding."""
    return torch.cat([batch.inputs_BL, batch.targets_BL[:, -1:]], dim=1)


def encode_slots(tower: ItemTower, pool: MediaPool, most: int, batch: Batch) -> torch.Tensor:
    """Every slot through the item tower; an item's vector is the mean over its slots: [U, D].

    Args:
        pool: media on the batch's device.
        most: slots of the rank that has the most of them; all run the same number of chunks, as ZeRO-3 wants it.
    """
    slots_S = slots_of(batch).flatten()
    items_S = torch.where(slots_S >= 0, batch.items_U[slots_S], 0)
    encode = partial(_encode, tower, pool)
    parts = torch.split(items_S, list(shares(len(items_S), -(-most // tower.chunk))))
    run = partial(checkpoint, encode, use_reentrant=False) if tower.recomputes else encode
    vectors_SD = torch.cat([run(part) for part in parts])
    size = len(batch.items_U)
    rows_S = torch.where(
        slots_S >= 0, slots_S, size
    )  # padding adds up in a row of its own, which nothing reads
    sums = vectors_SD.new_zeros(size + 1, vectors_SD.shape[1]).index_add(0, rows_S, vectors_SD)[
        :size
    ]
    occurs_U1 = torch.bincount(rows_S, minlength=size + 1)[:size, None]
    return sums / occurs_U1


def _encode(tower: ItemTower, pool: MediaPool, items_n: torch.Tensor) -> torch.Tensor:
    with tower.drawing(items_n):
        vectors: torch.Tensor = tower(pool.of(items_n))
    return vectors
