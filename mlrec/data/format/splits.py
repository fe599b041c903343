"""Which interactions of a user are for training, for validation and for test.

There are two ways to split:

- leave_one_out: a user's last interaction is the test target, the one before it the validation
  target. MicroLens' protocol. Users' periods differ, so training sees interactions that are later
  than other users' targets (Ji et al., A Critical Study on Data Leakage in Recommender System
  Offline Evaluation, 2023).
- time: two cut-offs are the same for all users. Interactions before the first are for training.
  The target is a user's last interaction in the period between the cut-offs (validation) or after
  the second (test), and everything before it is the history. Of the possible targets, Gusak et al.
  (Time to Split: Exploring Data Splitting Strategies for Offline Evaluation of Sequential
  Recommenders, RecSys 2025) advise against the first of a period: the distribution of time gaps
  before it differs, and its metrics correlate less with those of predicting every interaction.

Shape letters: U users of the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field

from mlrec.storage.typed_json import STRICT

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

MAX_KEEP_LAST = 1000
"""A block of 65,536 users takes 0.5 GB at this length."""
MIN_TRAIN_ITEMS = 2
"""Training interactions of a user from which there is something to predict."""

TimeUnit = Literal["milliseconds", "unknown"]
"""Unit of a data set's times: milliseconds since 1970 in UTC, or that of the raw data."""
# The difference of two such times fits int64.
Time = Annotated[int, Field(ge=-(1 << 62), le=1 << 62)]


@dataclass(frozen=True)
class SplitInfo:
    """Division of each user's interactions into training, validation and test.

    Of what comes before a target, the last `keep_last` - 1 interactions are used. MicroLens'
    protocol has users with 5 or more interactions and uses their last 13.
    """

    __pydantic_config__ = STRICT

    keep_last: int = 13
    min_interactions: int = 5
    """Least number of interactions of a user, those for validation and test included."""
    kind: Literal["leave_one_out", "time"] = "leave_one_out"
    validation_from: Time | None = None
    """Time of the first cut-off, in the unit of the data set's times; None for leave_one_out."""
    test_from: Time | None = None
    """Time of the second cut-off."""
    time_unit: TimeUnit = "unknown"

    def __post_init__(self) -> None:
        if self.keep_last > MAX_KEEP_LAST:
            raise ValueError(
                f"the split keeps the last {self.keep_last} interactions; "
                f"at most {MAX_KEEP_LAST} are supported"
            )
        if self.kind == "time":
            self._check_time()
        else:
            self._check_leave_one_out()

    def _check_leave_one_out(self) -> None:
        if self.min_interactions >= 4 and self.keep_last < self.min_interactions:
            raise ValueError(
                f"the split keeps the last {self.keep_last} of at least {self.min_interactions} "
                "interactions; leave-one-out needs keep_last not below min_interactions. "
                f"Set keep_last {self.min_interactions}, or a lower min_interactions"
            )
        if self.min_interactions < 4:
            raise ValueError(
                f"the split keeps the last {self.keep_last} of at least {self.min_interactions} "
                "interactions; leave-one-out needs min_interactions of 4 or more: two to train on "
                "and two held out"
            )
        if (self.validation_from, self.test_from) != (None, None):
            raise ValueError("validation_from and test_from belong to a split by time")

    def _check_time(self) -> None:
        if self.min_interactions < 1 or self.keep_last < 4:
            raise ValueError(
                f"the split keeps the last {self.keep_last} of at least {self.min_interactions} "
                "interactions; a split by time needs keep_last of 4 or more and min_interactions "
                "of 1 or more"
            )
        if self.validation_from is None or self.test_from is None:
            raise ValueError("a split by time needs validation_from and test_from")
        if self.validation_from >= self.test_from:
            raise ValueError(
                f"validation begins at {time_in_words(self.validation_from, self.time_unit)}, "
                f"which is not before test at {time_in_words(self.test_from, self.time_unit)}"
            )

    @property
    def history_length(self) -> int:
        """L: the longest history that predicts a training target."""
        return self.train_length - 1

    @property
    def train_length(self) -> int:
        """The most interactions of a user to train on."""
        return self.keep_last - 2

    def in_words(self) -> str:
        """Return who is in which split, for people."""
        users = (
            f"users with {self.min_interactions} or more interactions, "
            f"of which the newest {self.keep_last} are used: "
        )
        if self.kind == "leave_one_out":
            return f"{users}the last is test, the one before validation"
        return f"{users}by time, {self.cut_offs_in_words()}"

    def cut_offs_in_words(self) -> str:
        """Return the cut-offs of a split by time, for people."""
        assert self.validation_from is not None
        assert self.test_from is not None
        first = time_in_words(self.validation_from, self.time_unit)
        second = time_in_words(self.test_from, self.time_unit)
        return f"validation from {first}, test from {second}"

    def seen_length(self, split: Split) -> int:
        """Return the most items before a target that ranking excludes."""
        # Leave-one-out has one window for both targets, whose last item is the test target.
        is_inside = self.kind == "leave_one_out" and split == "validation"
        return self.keep_last - (2 if is_inside else 1)


def time_in_words(time: int, unit: TimeUnit) -> str:
    """Return a time as a date in UTC if its unit is known, otherwise as a number."""
    if unit == "unknown":
        return str(time)
    # auto: a day without a time of day where that is midnight
    return str(np.datetime_as_string(np.datetime64(time, "ms"), unit="auto", timezone="UTC"))


class HeldOut(NamedTuple):
    """Numbers of interactions that users have in the validation and in the test period.

    Invariant: a user's run is its training interactions, then those of the validation period, then
    those of the test period. The last interaction of a period is its target.
    """

    validation_U: np.ndarray
    """int32."""
    test_U: np.ndarray
    """int32."""


def held_out(split: SplitInfo, offsets: np.ndarray, times: np.ndarray | None) -> HeldOut:
    """Return the numbers of held-out interactions of some users.

    Args:
        offsets: int64 [U + 1], starts of the users' runs.
        times: int64 [interactions], ascending in each run.

    Raises:
        ValueError: the split is by time, and there are no times.
    """
    if split.kind == "leave_one_out":
        # The same 1 for every user: a view without memory of its own.
        ones = np.broadcast_to(np.int32(1), len(offsets) - 1)
        return HeldOut(ones, ones)
    if times is None:
        raise ValueError("the split is by time, but the interactions have no times")
    from_validation_U = _counts(times >= split.validation_from, offsets)
    test_U = _counts(times >= split.test_from, offsets)
    return HeldOut(from_validation_U - test_U, test_U)


def _counts(holds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return how often a bool array holds in each run, int32 [U]."""
    # A cumulative sum would take 8 bytes per interaction. This takes them where it holds only.
    return np.diff(np.searchsorted(np.flatnonzero(holds), offsets)).astype(np.int32)


@dataclass(frozen=True)
class Cuts:
    """Where the runs of some users are cut: positions in the array of all items, int64 [U]."""

    starts_U: np.ndarray
    train_ends_U: np.ndarray
    """Ends of the training interactions; the validation period begins here."""
    validation_ends_U: np.ndarray
    """Ends of the validation period; the test period begins here."""
    ends_U: np.ndarray

    @classmethod
    def of(cls, starts_U: np.ndarray, ends_U: np.ndarray, held_out: HeldOut) -> Cuts:
        """Return the cuts of runs from `starts_U` to `ends_U`."""
        validation_ends_U = ends_U - held_out.test_U
        return cls(starts_U, validation_ends_U - held_out.validation_U, validation_ends_U, ends_U)

    def targets(self, split: Split) -> np.ndarray:
        """Return the position of each user's target; it is one only where `has_target` holds."""
        ends_U = self.validation_ends_U if split == "validation" else self.ends_U
        return np.asarray(ends_U - 1)

    def is_in_period(self, split: Split) -> np.ndarray:
        """Return whether each user has an interaction in the period, bool [U]."""
        if split == "validation":
            return np.asarray(self.train_ends_U < self.validation_ends_U)
        return np.asarray(self.validation_ends_U < self.ends_U)

    def has_target(self, split: Split) -> np.ndarray:
        """Return whether each user has a target and a history before it, bool [U]."""
        return np.asarray(self.is_in_period(split) & (self.targets(split) > self.starts_U))

    def is_trained(self) -> np.ndarray:
        """Return whether each user has training interactions that predict another, bool [U]."""
        return np.asarray(self.train_ends_U - self.starts_U >= MIN_TRAIN_ITEMS)
