"""Statistics of users' sequences under a split: remaining users, popularity, split sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlrec.data.format import SPLITS, Cuts, SplitInfo, held_out
from mlrec.runtime.printable import counted


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
        # most logs need no change, and a copy of a billion interactions takes 12 GB
        if is_kept.all():
            return self
        # an offset moves by the number of interactions removed before it
        removed = np.flatnonzero(~is_kept)
        offsets = self.offsets - np.searchsorted(removed, self.offsets)
        times = None if self.times is None else self.times[is_kept]
        return replace(self, offsets=offsets, items=self.items[is_kept], times=times)

    def keep_users(self, is_kept: np.ndarray) -> Sequences:
        """Return some of the users with all of their interactions.

        Args:
            is_kept: bool [users].
        """
        if is_kept.all():
            return self
        # first the interactions of the users who leave, then the users themselves
        remaining = self.keep(np.repeat(is_kept, self.lengths))
        offsets = np.concatenate([[0], np.cumsum(self.lengths[is_kept])]).astype(np.int64)
        raw_users = None if self.raw_users is None else self.raw_users.filter(pa.array(is_kept))
        return Sequences(self.users[is_kept], offsets, remaining.items, remaining.times, raw_users)


def with_enough(sequences: Sequences, min_interactions: int) -> Sequences:
    """Return the users with at least `min_interactions` interactions."""
    return sequences.keep_users(sequences.lengths >= min_interactions)


def cuts_of(sequences: Sequences, split: SplitInfo) -> Cuts:
    """Return where the users' runs are cut into training, validation and test."""
    lengths = held_out(split, sequences.offsets, sequences.times)
    return Cuts.of(sequences.offsets[:-1], sequences.offsets[1:], lengths)


def training_popularity(sequences: Sequences, split: SplitInfo, num_items: int) -> np.ndarray:
    """Return the number of training interactions of each item id.

    Returns:
        int64 [num_items + 1], where entry 0 is padding.
    """
    cuts = cuts_of(sequences, split)
    first_U = np.maximum(cuts.starts_U, cuts.train_ends_U - split.train_length)
    # +1 where a user's training window begins and -1 where it ends: their sum is 1 inside of it
    changes = np.zeros(len(sequences.items) + 1, dtype=np.int8)
    np.add.at(changes, first_U, 1)
    np.add.at(changes, cuts.train_ends_U, -1)
    is_training = np.cumsum(changes[:-1], dtype=np.int8).view(bool)
    return np.bincount(sequences.items[is_training], minlength=num_items + 1)


def split_counts(sequences: Sequences, split: SplitInfo) -> dict[str, int]:
    """Return the number of users and interactions, and of interactions in each split."""
    cuts = cuts_of(sequences, split)
    train_U = np.minimum(cuts.train_ends_U - cuts.starts_U, split.train_length)
    counts = {
        "users": len(sequences.users),
        "interactions": len(sequences.items),
        "train": int(train_U.sum()),
    }
    for name in SPLITS:
        num_targets = int(cuts.has_target(name).sum())
        counts[name] = num_targets
        # Under leave-one-out everyone has a history.
        if split.kind == "time":
            counts[f"{name}_without_history"] = int(cuts.is_in_period(name).sum()) - num_targets
    return counts


def describe_time_split(split: SplitInfo, counts: Mapping[str, int]) -> str:
    """Return the cut-offs of a split by time, and what is in each period.

    Args:
        counts: result of `split_counts`.
    """
    parts = [f"{counts['train']:,} training interactions"]
    num_skipped = 0
    for name in SPLITS:
        parts.append(f"{counted(counts[name], 'user')} with a {name} target")
        num_skipped += counts[f"{name}_without_history"]
    if num_skipped:
        parts.append(f"{counted(num_skipped, 'target')} not ranked for lack of a history")
    return f"split by time, {split.cut_offs_in_words()}: {', '.join(parts)}"
