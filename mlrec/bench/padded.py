"""Padded baseline of `mlrec bench step`: the global batch as MicroLens' trainer encodes it.

There each rank takes its own users with all 11 slots of each, and encodes every slot. An item is
encoded as often as it occurs. Padding is encoded as zeros, and frames are float32. Candidates are
the items of the rank's own users, and the mean losses of the ranks are averaged.

The comparison is about encoding. Both steps run the same model and optimizer in the same chunks.
Both checkpoint activations if the larger one must (item.checkpoint). Both score distinct items,
which gives the same loss as scoring every slot (loss.multiplicity) for less work than MicroLens'
trainer has. On one rank the losses of the two steps are equal.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from mlrec.bench.made_up import MadeUpSteps, MediaPool
from mlrec.bench.step_clock import StepClock, StepTimes
from mlrec.config import Config
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data
from mlrec.models.recommender import Recommender
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World, shares
from mlrec.train.large_tables import MIN_SHARDED_WEIGHTS, find_tables


class RankPlan(Plan):
    """Steps of a plan over the users of one rank, as if there were no other rank."""

    def __init__(self, plan: Plan, global_batch: int, rank: int) -> None:
        super().__init__(plan.table, plan.seed, global_batch, Owners((1,)))
        self._plan = plan
        self._rank = rank

    def users(self, step: int) -> np.ndarray:
        users_G = self._plan.users(step)
        # The split is the one by which the other plan's ranks share their users.
        sizes = shares(len(users_G), self._plan.owners.world_size)
        start = sum(sizes[: self._rank])
        return users_G[start : start + sizes[self._rank]]


class PaddedBaseline:
    """Steps of the same engine in which every slot of the global batch is encoded."""

    name: ClassVar[str] = "padded"

    def __init__(
        self, config: Config, data: Data, plan: Plan, model: Recommender, world: World
    ) -> None:
        """Draw the media on the device.

        Raises:
            ValueError: the recommender encodes the whole catalogue, which has no padded form, or
                ranks share a table of ids, of which each step fetches the rows of its batch.
        """
        if model.whole_catalogue:
            raise ValueError(
                f"--baseline padded cannot measure {config.recommender.name} with "
                f"{config.loss.name}. They encode the whole catalogue in every step, not slots. "
                "Leave the option out"
            )
        if world.size > 1 and (tables := find_tables(model, config)):
            raise ValueError(
                f"--baseline padded cannot measure {min(tables)} on {world.size} ranks, which "
                f"share a table of {MIN_SHARDED_WEIGHTS:,} weights or more. Measure on one rank, "
                "or leave the option out"
            )
        # The split keeps two interactions of each user for validation and test.
        self._slots_per_user = data.info.split.train_length
        self._ranks = world.size
        self._plan = plan
        self._tower = model.tower
        self._pool = MediaPool(model.tower.specs, world.device, floats=True)
        global_batch = config.train.global_batch
        rank_plan = RankPlan(plan, global_batch, world.rank)
        # Each rank is alone with its users, and encodes media of its own pool on the device.
        self._dataset = MadeUpSteps(data, rank_plan, 0, None, local=True, whole_catalogue=False)
        self.most_items = self._most_slots(global_batch)

    def step(self, clock: StepClock, times: StepTimes, batch: Batch) -> None:
        """Take a step of the clock's engine on this rank's part of the same global batch."""
        # The last batch of an epoch has fewer users, and so fewer slots.
        most_slots = self._most_slots(len(self._plan.users(batch.step)))
        encode = partial(encode_slots, self._tower, self._pool, most_slots)
        padded_batch = self._dataset[batch.step]
        videos = len(padded_batch.users_B) * self._slots_per_user
        clock.step(times, iter([padded_batch]), encode, videos)

    def _most_slots(self, users: int) -> int:
        """Return the slots of the rank with the most, when the ranks share `users` users."""
        return -(-users // self._ranks) * self._slots_per_user


def encode_slots(tower: ItemTower, pool: MediaPool, most: int, batch: Batch) -> torch.Tensor:
    """Encode every slot, and return the mean over the slots of each item, [U, D].

    All slots of an item have the same vector. The mean divides the gradient among them.

    Args:
        pool: media on the batch's device.
        most: slots of the rank with the most. It sets the number of chunks on all ranks.
    """
    slots_S = batch.slots().flatten()
    items_S = torch.where(slots_S >= 0, batch.items_U[slots_S], 0)
    encode = partial(_encode, tower, pool)
    # ZeRO-3 gathers parameters for each chunk. All ranks must run equally many, or they deadlock.
    num_chunks = -(-most // tower.chunk)
    chunks = torch.split(items_S, list(shares(len(items_S), num_chunks)))
    recompute = partial(checkpoint, encode, use_reentrant=False)
    vectors = []
    for index, chunk in enumerate(chunks):
        run = recompute if tower.recomputes_chunk(num_chunks - index - 1) else encode
        vectors.append(run(chunk))
    vectors_SD = torch.cat(vectors)

    num_items = len(batch.items_U)
    # Padding adds up in a row of its own at the end, which is cut off.
    rows_S = torch.where(slots_S >= 0, slots_S, num_items)
    sums = vectors_SD.new_zeros(num_items + 1, vectors_SD.shape[1])
    sums = sums.index_add(0, rows_S, vectors_SD)[:num_items]
    counts = torch.bincount(rows_S, minlength=num_items + 1)[:num_items, None]
    return sums / counts


def _encode(tower: ItemTower, pool: MediaPool, items_n: torch.Tensor) -> torch.Tensor:
    # Dropout draws by item, also when activation checkpointing runs the chunk again.
    with tower.drawing(items_n):
        vectors: torch.Tensor = tower(pool.of(items_n))
    return vectors
