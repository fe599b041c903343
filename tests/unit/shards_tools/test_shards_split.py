"""Statistics of sequences: who is left, and what training sees."""

import numpy as np
import pytest

from mlrec.data.format import SplitInfo
from shards_tools.raw.split import (
    Sequences,
    split_counts,
    training_popularity,
    with_enough,
)


@pytest.fixture
def sequences() -> Sequences:
    """Return users below, at and above the bounds of 5 and 13 interactions."""
    lengths = np.array([3, 5, 20, 4, 14])
    rng = np.random.default_rng(0)
    items = rng.integers(1, 10, size=lengths.sum()).astype(np.int32)
    return Sequences(
        np.array([7, 8, 9, 10, 11]),
        np.concatenate([[0], np.cumsum(lengths)]),
        items,
        np.arange(lengths.sum()),
    )


def runs(sequences: Sequences) -> dict[int, list[int]]:
    """Return the items of each user."""
    items = sequences.items.tolist()
    items_by_user = {}
    for row, user in enumerate(sequences.users.tolist()):
        items_by_user[user] = items[sequences.offsets[row] : sequences.offsets[row + 1]]
    return items_by_user


def test_with_enough_short_users_leave(sequences: Sequences) -> None:
    remaining = with_enough(sequences, 5)
    expected = runs(sequences)
    for user in (7, 10):
        del expected[user]
    assert runs(remaining) == expected
    assert remaining.times is not None
    assert remaining.times.tolist() == [*range(3, 28), *range(32, 46)]


def test_keep_removed_interactions_leave_their_users(sequences: Sequences) -> None:
    remaining = sequences.keep(sequences.items != 4)
    expected = {}
    for user, run in runs(sequences).items():
        expected[user] = [item for item in run if item != 4]
    assert runs(remaining) == expected


def test_training_popularity_counts_training_interactions(sequences: Sequences) -> None:
    split = SplitInfo(keep_last=13)
    remaining = with_enough(sequences, split.min_interactions)
    expected = np.zeros(10, dtype=int)
    for run in runs(remaining).values():
        for item in run[-13:-2]:
            expected[item] += 1
    assert training_popularity(remaining, split, 9).tolist() == expected.tolist()


def test_split_counts_add_up(sequences: Sequences) -> None:
    remaining = with_enough(sequences, 5)
    assert split_counts(remaining, SplitInfo()) == {
        "users": 3,
        "interactions": 39,
        # the last 13 of each user, without validation and test
        "train": 5 + 13 + 13 - 2 * 3,
        "validation": 3,
        "test": 3,
    }
