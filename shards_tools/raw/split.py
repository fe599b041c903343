"""Leave-one-out statistics of users' sequences: who is left, which interactions are kept, what training sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlrec.data.format import SplitInfo


@dataclass(frozen=True)
class Sequences:
    """Users' interactions, one run per user, oldest first."""

    users: np.ndarray
    """int64 [users]: user ids of the raw data."""
    offsets: np.ndarray
    """int64 [users + 1]: starts of the runs."""
    items: np.ndarray
    """int32 [interactions]."""
    times: np.ndarray | None = None
    """int64 [interactions], where known."""
    raw_users: pa.LargeStringArray | None = None
    """[users]: user ids of the raw data where `users` does not say them to the letter."""

    @property
    def lengths(self) -> np.ndarray:
        """int64 [users]: interactions of each user."""
        return np.diff(self.offsets)

    def keep(self, interactions: np.ndarray) -> Sequences:
        """The same users with only the interactions where the bool array [interactions] holds."""
        kept_before = np.concatenate([[0], np.cumsum(interactions)])
        times = None if self.times is None else self.times[interactions]
        return replace(
            self, offsets=kept_before[self.offsets], items=self.items[interactions], times=times
        )

    def keep_users(self, users: np.ndarray) -> Sequences:
        """Only the users where the bool array [users] holds, with all of their interactions."""
        kept = self.keep(np.repeat(users, self.lengths))
        offsets = np.concatenate([[0], np.cumsum(self.lengths[users])]).astype(np.int64)
        raw_users = None if self.raw_users is None else self.raw_users.filter(pa.array(users))
        return Sequences(self.users[users], offsets, kept.items, kept.times, raw_users)


def with_enough(sequences: Sequences, split: SplitInfo) -> Sequences:
    """The users with at least `split.min_interactions` interactions."""
    return sequences.keep_users(sequences.lengths >= split.min_interactions)


def from_end(sequences: Sequences) -> np.ndarray:
    """int64 [interactions]: how far each stands from its user's end; 1 is the last."""
    return np.repeat(sequences.offsets[1:], sequences.lengths) - np.arange(len(sequences.items))


def training_popularity(sequences: Sequences, split: SplitInfo, num_items: int) -> np.ndarray:
    """int64 [num_items + 1]: training interactions of each item id."""
    distance = from_end(sequences)
    training = (distance > 2) & (distance <= split.keep_last)
    return np.bincount(sequences.items[training], minlength=num_items + 1)


def split_counts(sequences: Sequences, split: SplitInfo) -> dict[str, int]:
    """Users, interactions, and how many of them each split has."""
    users = len(sequences.users)
    kept = int(np.minimum(sequences.lengths, split.keep_last).sum())
    return {
        "users": users,
        "interactions": len(sequences.items),
        "train": kept - 2 * users,
        "validation": users,
        "test": users,
    }
