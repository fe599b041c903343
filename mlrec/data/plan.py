"""Plan a training step: the users of its batch, their items, and the rank that encodes each item.

Invariant: the plan is a pure function of (seed, step, number of ranks on each node).
Every rank computes it alone and all get the same answer, so planning needs no communication.
A run that resumes at a step gets the same plan as a run that never stopped.

A plan takes four steps:
1. Shuffle: choose the users of the global batch. An epoch visits every user once who has
   something to train on.
2. Collect: list the distinct items in the training sequences of these users.
3. Index: replace each item of a sequence by its position in that list.
4. Own: cut the list into one run per rank. A rank reads and encodes only its run.

Shape letters: G users of the global batch, T slots of a training sequence, U distinct items,
W ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlrec.data.ownership import Owners
from mlrec.data.sequences import SequenceTable
from mlrec.data.spacing import evenly_spaced
from mlrec.runtime.distributed import shares

SAMPLED_STEPS = 16
"""Number of steps, spread over a run, whose items are counted."""

_FEISTEL_ROUNDS = 6


def shuffled(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Return the images of `positions` under a seeded bijection of 0 ... size - 1, int64.

    The bijection is a Feistel network over the next even power of two. A result of `size` or more
    goes through the network again until it falls below (cycle walking: Black and Rogaway, "Ciphers
    with arbitrary finite domains"). So an order of 34 million users takes no memory.
    """
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    shift = np.uint64(half_bits)
    round_keys = np.random.SeedSequence(key).generate_state(_FEISTEL_ROUNDS, np.uint64)

    def permute(values: np.ndarray) -> np.ndarray:
        left = values >> shift
        right = values & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        return np.asarray((left << shift) | right)

    walked = permute(positions.astype(np.uint64))
    # The power of two is at most four times `size`, so an average walk has at most four steps.
    while (outside := walked >= size).any():
        walked[outside] = permute(walked[outside])
    return np.asarray(walked, dtype=np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return mixed 64-bit values by the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


@dataclass(frozen=True)
class StepPlan:
    """The plan of one step, the same on all ranks."""

    step: int
    """Number of the step in the run, from 0."""
    users_G: np.ndarray
    """int64: numbers of the users of the global batch."""
    slots_GT: np.ndarray
    """int64: training sequences as positions in items_U, right-aligned, -1 for padding."""
    items_U: np.ndarray
    """int64: distinct items, ascending. Rank r owns the r-th of W runs."""
    owned_W: tuple[int, ...]
    """Number of items in each rank's run; their sum is U."""

    def users_of(self, rank: int) -> slice:
        """Return the part of users_G that is the rank's own."""
        return _run(shares(len(self.users_G), len(self.owned_W)), rank)

    def items_of(self, rank: int) -> slice:
        """Return the part of items_U that the rank owns."""
        return _run(self.owned_W, rank)


def _run(sizes: tuple[int, ...], index: int) -> slice:
    """Return the place of one of several adjacent runs."""
    start = sum(sizes[:index])
    return slice(start, start + sizes[index])


class Plan:
    """The plans of all steps of a run."""

    def __init__(self, table: SequenceTable, seed: int, global_batch: int, owners: Owners) -> None:
        """Divide an epoch into steps of at most `global_batch` users and nearly equal size.

        Raises:
            ValueError: a step would have fewer users than there are ranks.
        """
        self.table = table
        self.seed = seed
        self.owners = owners
        # Users without a training target, as a split by time has them, would be empty rows.
        num_users = table.num_train_users
        self.steps_per_epoch = -(-num_users // global_batch)
        # Each rank trains on users of its own, so no step may have fewer users than ranks.
        if num_users // self.steps_per_epoch < owners.world_size:
            raise ValueError(
                f"train.global_batch is {global_batch}: with {num_users} users that leaves "
                f"fewer users per step than the {owners.world_size} ranks; raise it or start "
                "fewer ranks"
            )

    def users(self, step: int) -> np.ndarray:
        """Return the users of the step's global batch, int64 [G].

        Each epoch visits every user to train on once, in an order of its own.
        """
        num_users = self.table.num_train_users
        epoch, index = divmod(step, self.steps_per_epoch)
        # Bounds by rounding down, so that the sizes of two steps differ by at most one user.
        start = num_users * index // self.steps_per_epoch
        end = num_users * (index + 1) // self.steps_per_epoch
        epoch_key = (self.seed << 32) + epoch
        return self.table.train_users(shuffled(np.arange(start, end), num_users, epoch_key))

    def step(self, step: int, items_N: np.ndarray | None = None) -> StepPlan:
        """Return the plan of one step, in O(global batch).

        Args:
            items_N: the items of every step, ascending, for models that need the whole catalogue;
                None for the items of the global batch.
        """
        users_G = self.users(step)
        train_GT = self.table.train(users_G)
        is_item_GT = train_GT > 0  # item number 0 is padding
        if items_N is None:
            items_U, positions = np.unique(train_GT[is_item_GT], return_inverse=True)
        else:
            is_item_GT &= np.isin(train_GT, items_N)
            items_U = items_N
            positions = np.searchsorted(items_N, train_GT[is_item_GT])
        slots_GT = np.full(train_GT.shape, -1, dtype=np.int64)
        slots_GT[is_item_GT] = positions
        return StepPlan(step, users_G, slots_GT, items_U, self.owners.split(items_U))

    def most_items(self, total_steps: int, items_N: np.ndarray | None = None) -> int:
        """Return the most items that a rank owns in one of the `sampled_steps` of a run."""
        most = 0
        for step in sampled_steps(total_steps):
            most = max(most, *self.step(step, items_N).owned_W)
        return most


def sampled_steps(total_steps: int) -> Iterator[int]:
    """Yield up to SAMPLED_STEPS steps, evenly spaced from the first to the last step of a run."""
    # A run without steps left still answers for step 0, whose memory is checked before training.
    yield from evenly_spaced(max(1, total_steps), SAMPLED_STEPS).tolist()
