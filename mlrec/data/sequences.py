"""All users' sequences as memory-mapped arrays, shared by all processes of a node."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format import Cuts, HeldOut, Split, SplitInfo, held_out
from mlrec.runtime.printable import as_cell

_USERS_AT_A_TIME = 1 << 20
"""Users who are searched for targets at once."""


class SequenceTable:
    """Items of all users, one run per user, oldest first.

    Items are int32 on disk, so a billion interactions take 4 GB. Users are numbered from 0 in the
    order of the shards.
    """

    def __init__(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        users: np.ndarray,
        split: SplitInfo,
        raw_users: pa.LargeStringArray | None = None,
        lengths: HeldOut | None = None,
        train_users: np.ndarray | None = None,
    ) -> None:
        """Hold the arrays of a table without copying them.

        Args:
            items: int32 [interactions], item ids.
            offsets: int64 [users + 1], starts of the runs.
            users: int64 [users], ids of the raw data, or 1, 2, ... with `raw_users`.
            raw_users: [users], the raw data's ids where these are not the numbers in `users`.
            lengths: of the held-out periods; leave-one-out needs none.
            train_users: int64, numbers of the users to train on; None for all.
        """
        self.items = items
        self.offsets = offsets
        self.users = users
        self.raw_users = raw_users
        self.split = split
        self._held_out = lengths or held_out(split, offsets, times=None)
        self._train_users = train_users

    def raw_user(self, user: int) -> str:
        """Return the raw data's id of a user."""
        return str(self.users[user] if self.raw_users is None else self.raw_users[user].as_py())

    def number_of(self, raw_user: str) -> int:
        """Return the number of the user with this raw id; surrounding spaces are ignored.

        Raises:
            ValueError: there is no such user.
        """
        # Packing strips the ids too.
        raw_user = raw_user.strip()
        if self.raw_users is not None:
            # Arrow compares types strictly: a plain string scalar would not match.
            number = pc.index(self.raw_users, pa.scalar(raw_user, pa.large_string())).as_py()
        else:
            number = self._number_of_integer(raw_user)
        if number < 0:
            first_users = map(self.raw_user, range(min(3, self.num_users)))
            first = ", ".join(map(as_cell, first_users))
            raise ValueError(f"the data set has no user {raw_user!r}; its first ones are {first}")
        return int(number)

    def _number_of_integer(self, raw_user: str) -> int:
        """Return the number of the user whose id is a whole number, -1 if there is none."""
        # 18 digits fit int64. isdecimal alone would accept the digits of other scripts.
        if not (raw_user.isascii() and raw_user.isdecimal() and len(raw_user) < 19):
            return -1
        # 007 is not 7.
        if str(int(raw_user)) != raw_user:
            return -1
        places = np.flatnonzero(self.users == int(raw_user))
        return int(places[0]) if len(places) else -1

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def num_train_users(self) -> int:
        """Number of users to train on, who have two or more training interactions."""
        return self.num_users if self._train_users is None else len(self._train_users)

    def train_users(self, places_B: np.ndarray) -> np.ndarray:
        """Return the numbers of the users at these places among those to train on, int64 [B]."""
        return places_B if self._train_users is None else self._train_users[places_B]

    def evaluated_users(self, split: Split) -> np.ndarray:
        """Return the numbers of the users with a target and a history, ascending, int64 [V]."""
        # In parts, because arrays of tens of millions of users take gigabytes.
        parts = [np.empty(0, dtype=np.int64)]
        for start in range(0, self.num_users, _USERS_AT_A_TIME):
            users = np.arange(start, min(start + _USERS_AT_A_TIME, self.num_users))
            parts.append(users[self._cuts(users).has_target(split)])
        return np.concatenate(parts)

    def train(self, users_B: np.ndarray) -> np.ndarray:
        """Return training sequences, int64 [B, keep_last - 2], right-aligned, 0 for padding."""
        cuts = self._cuts(users_B)
        return self._window(cuts.starts_U, cuts.train_ends_U, self.split.train_length)

    def history(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the last L items before the target, the input of the model.

        Returns:
            int64 [B, L], right-aligned, 0 for padding.
        """
        cuts = self._cuts(users_B)
        return self._window(cuts.starts_U, cuts.targets(split), self.split.history_length)

    def seen(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the items of the window before the target, which ranking excludes.

        Returns:
            int64 [B, keep_last - 1 or - 2], 0 for padding.
        """
        cuts = self._cuts(users_B)
        return self._window(cuts.starts_U, cuts.targets(split), self.split.seen_length(split))

    def target(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the target of each user, who must be one of `evaluated_users`, int64 [B]."""
        return np.asarray(self.items[self._cuts(users_B).targets(split)], dtype=np.int64)

    def items_of(self, user: int) -> np.ndarray:
        """Return all items of a user, held-out ones included, oldest first, int64."""
        return np.asarray(self.items[self.offsets[user] : self.offsets[user + 1]], dtype=np.int64)

    def _cuts(self, users_B: np.ndarray) -> Cuts:
        validation_B = self._held_out.validation_U[users_B]
        lengths = HeldOut(validation_B, self._held_out.test_U[users_B])
        return Cuts.of(self.offsets[users_B], self.offsets[users_B + 1], lengths)

    def _window(self, starts_B: np.ndarray, ends_B: np.ndarray, width: int) -> np.ndarray:
        """Return the last `width` items before each end, int64 [B, width], 0 for padding."""
        positions = ends_B[:, None] + np.arange(-width, 0)
        inside = positions >= starts_B[:, None]
        # Positions before the start belong to another user, or are negative: read item 0 instead.
        return np.where(inside, self.items[np.where(inside, positions, 0)], 0).astype(np.int64)
