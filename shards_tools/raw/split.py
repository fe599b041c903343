"""Leave-one-out statistics of users' sequences: remaining users, popularity, split sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlrec.data.format import SplitInfo


@dataclass(frozen=True)
class Sequences:
    """Users' interactions, one run per user, oldest first.

    Invariant: the run of user u is offsets[u] : offsets[u + 1] of `items` and `times`.
    """

    users: np.ndarray
    """int64 [users]: user ids."""
    offsets: np.ndarray
    """int64 [users + 1]: starts of the runs, and the end of the last."""
    items: np.ndarray
    """int32 [interactions]."""
    times: np.ndarray | None = None
    """int64 [interactions]; None if unknown."""
    raw_users: pa.LargeStringArray | None = None
    """[users]: raw ids; None if they are `users` to the letter."""

    @property
    def lengths(self) -> np.ndarray:
        """int64 [users]: number of interactions of each user."""
        return np.diff(self.offsets)

    def keep(self, is_kept: np.ndarray) -> Sequences:
        """Return the same users with only some of their interactions.

        Args:
            is_kept: bool [interactions].
        """
        # an offset moves by the number of interactions removed before it
        num_kept_before = np.concatenate([[0], np.cumsum(is_kept)])
        times = None if self.times is None else self.times[is_kept]
        offsets = num_kept_before[self.offsets]
        return replace(self, offsets=offsets, items=self.items[is_kept], times=times)

    def keep_users(self, is_kept: np.ndarray) -> Sequences:
        """Return some of the users with all of their interactions.

        Args:
            is_kept: bool [users].
        """
        # first the interactions of the users who leave, then the users themselves
        remaining = self.keep(np.repeat(is_kept, self.lengths))
        offsets = np.concatenate([[0], np.cumsum(self.lengths[is_kept])]).astype(np.int64)
        raw_users = None if self.raw_users is None else self.raw_users.filter(pa.array(is_kept))
        return Sequences(self.users[is_kept], offsets, remaining.items, remaining.times, raw_users)


def with_enough(sequences: Sequences, split: SplitInfo) -> Sequences:
    """Return the users with at least `split.min_interactions` interactions."""
    return sequences.keep_users(sequences.lengths >= split.min_interactions)


def from_end(sequences: Sequences) -> np.ndarray:
    """Return the distance of each interaction from its user's end, where 1 is the last.

    Returns:
        int64 [interactions].
    """
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    return ends - np.arange(len(sequences.items))


def training_popularity(sequences: Sequences, split: SplitInfo, num_items: int) -> np.ndarray:
    """Return the number of training interactions of each item id.

    Returns:
        int64 [num_items + 1], where entry 0 is padding.
    """
    distance = from_end(sequences)
    # a user's last interaction is the test target, the one before it the validation target
    is_training = (distance > 2) & (distance <= split.keep_last)
    return np.bincount(sequences.items[is_training], minlength=num_items + 1)


def split_counts(sequences: Sequences, split: SplitInfo) -> dict[str, int]:
    """Return the number of users and interactions, and of interactions in each split."""
    num_users = len(sequences.users)
    # validation and test take one interaction each of the used ones
    num_used = int(np.minimum(sequences.lengths, split.keep_last).sum())
    return {
        "users": num_users,
        "interactions": len(sequences.items),
        "train": num_used - 2 * num_users,
        "validation": num_users,
        "test": num_users,
    }
