"""Who is trained on what in a step: a pure function of (seed, step, ranks of each node) that every rank computes alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlrec.data.ownership import Owners
from mlrec.data.sequences import SequenceTable
from mlrec.runtime.distributed import shares

SAMPLED_STEPS = 16
"""Steps, spread over a run, whose items are counted."""

_ROUNDS = 6


def shuffled(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a seeded bijection of 0 ... size - 1 sends `positions`, int64.

    A Feistel network over the next even power of two, walked until it falls below `size` (Black and Rogaway, "Ciphers with
    arbitrary finite domains"): 34 million users cost no permutation in memory.
    """
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    shift = np.uint64(half_bits)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def permute(values: np.ndarray) -> np.ndarray:
        left, right = values >> shift, values & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        return np.asarray((left << shift) | right)

    walked = permute(positions.astype(np.uint64))
    while (outside := walked >= size).any():
        walked[outside] = permute(walked[outside])
    return np.asarray(walked, dtype=np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    # the finaliser of splitmix64 (Steele, Lea and Flood, 2014)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


@dataclass(frozen=True)
class StepPlan:
    """One step of the whole run: G users of the global batch, U distinct items in owner order."""

    step: int
    users_G: np.ndarray
    slots_GT: np.ndarray
    """int64: positions in items_U of each user's training sequence, right-aligned, -1 for padding."""
    items_U: np.ndarray
    """int64: distinct items, sorted by id; rank r owns the r-th of W runs."""
    owned_W: tuple[int, ...]

    def users_of(self, rank: int) -> slice:
        """The part of users_G that is the rank's."""
        return _run(shares(len(self.users_G), len(self.owned_W)), rank)

    def items_of(self, rank: int) -> slice:
        """The part of items_U that the rank owns."""
        return _run(self.owned_W, rank)


def _run(sizes: tuple[int, ...], index: int) -> slice:
    start = sum(sizes[:index])
    return slice(start, start + sizes[index])


class Plan:
    """The plan of every step of a run."""

    def __init__(self, table: SequenceTable, seed: int, global_batch: int, owners: Owners) -> None:
        """
        Raises:
            ValueError: a step would have fewer users than there are ranks.
        """
        self.table, self.seed, self.owners = table, seed, owners
        self.steps_per_epoch = -(-table.num_users // global_batch)
        if table.num_users // self.steps_per_epoch < owners.world_size:
            raise ValueError(
                f"train.global_batch is {global_batch}: with {table.num_users} users that leaves fewer users per step than the "
                f"{owners.world_size} ranks; raise it or start fewer ranks"
            )

    def users(self, step: int) -> np.ndarray:
        """The users of the step's global batch, int64 [G]: each epoch visits every user once, in an order of its own."""
        epoch, index = divmod(step, self.steps_per_epoch)
        bounds = [self.table.num_users * (index + end) // self.steps_per_epoch for end in (0, 1)]
        return shuffled(np.arange(*bounds), self.table.num_users, key=(self.seed << 32) + epoch)

    def step(self, step: int, items_N: np.ndarray | None = None) -> StepPlan:
        """The plan of one step, in O(global batch); over `items_N`, ascending, in the place of the global batch's items."""
        users_G = self.users(step)
        train_GT = self.table.train(users_G)
        real = train_GT > 0
        if items_N is None:
            items_U, positions = np.unique(train_GT[real], return_inverse=True)
        else:
            real &= np.isin(train_GT, items_N)
            items_U, positions = items_N, np.searchsorted(items_N, train_GT[real])
        slots_GT = np.full(train_GT.shape, -1, dtype=np.int64)
        slots_GT[real] = positions
        return StepPlan(step, users_G, slots_GT, items_U, self.owners.split(items_U))

    def most_items(self, total_steps: int, items_N: np.ndarray | None = None) -> int:
        """The most items that a rank owns in one of the `sampled_steps` of a run."""
        return max(max(self.step(step, items_N).owned_W) for step in sampled_steps(total_steps))


def sampled_steps(total_steps: int) -> Iterator[int]:
    """Some steps, spread over a run."""
    yield from np.unique(
        np.linspace(0, max(0, total_steps - 1), SAMPLED_STEPS, dtype=np.int64)
    ).tolist()
