import numpy as np
import pytest

from mlrec.data.format import SplitInfo
from shards_tools.raw.split import (
    Sequences,
    from_end,
    split_counts,
    training_popularity,
    with_enough,
)


@pytest.fixture
def sequences() -> Sequences:
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
    parts = np.split(sequences.items, sequences.offsets[1:-1])
    return dict(zip(sequences.users.tolist(), (part.tolist() for part in parts), strict=True))


def test_users_with_too_few_interactions_leave(sequences: Sequences) -> None:
    left = with_enough(sequences, SplitInfo())
    assert runs(left) == {user: run for user, run in runs(sequences).items() if len(run) >= 5}
    assert left.times is not None
    assert left.times.tolist() == [*range(3, 28), *range(32, 46)]


def test_an_interaction_leaves_and_its_user_stays(sequences: Sequences) -> None:
    left = sequences.keep(sequences.items != 4)
    assert runs(left) == {
        user: [item for item in run if item != 4] for user, run in runs(sequences).items()
    }


def test_popularity_counts_what_training_sees(sequences: Sequences) -> None:
    split = SplitInfo(keep_last=13)
    expected = np.zeros(10, dtype=int)
    for run in runs(with_enough(sequences, split)).values():
        for item in run[-13:-2]:
            expected[item] += 1
    assert (
        training_popularity(with_enough(sequences, split), split, 9).tolist() == expected.tolist()
    )


def test_counts_add_up(sequences: Sequences) -> None:
    left = with_enough(sequences, SplitInfo())
    assert split_counts(left, SplitInfo()) == {
        "users": 3,
        "interactions": 39,
        "train": 5 + 13 + 13 - 2 * 3,
        "validation": 3,
        "test": 3,
    }


def test_distance_from_the_end(sequences: Sequences) -> None:
    assert from_end(sequences)[:8].tolist() == [3, 2, 1, 5, 4, 3, 2, 1]
