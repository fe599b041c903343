"""What is left out of a log: repeats, and users and items with few interactions."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from mlrec.data.format import SplitInfo
from mlrec.data.raw_ids import normalize_id, normalize_ids
from shards_tools.pack.interactions import read_interactions
from shards_tools.pack.settings import Settings
from shards_tools.raw.folder import open_raw
from shards_tools.raw.pairs.cleaning import clean
from shards_tools.raw.pairs.core import core_of
from shards_tools.raw.pairs.interactions import Interactions
from shards_tools.raw.pairs.packed import blocks_of_runs, order_of_groups
from shards_tools.raw.pairs.repeats import count_repeated_targets, handle_repeats
from shards_tools.raw.split import Sequences


def sequences_of(*runs: list[int]) -> Sequences:
    """Return the sequences of users 1, 2, ..."""
    lengths = [len(run) for run in runs]
    return Sequences(
        np.arange(1, len(runs) + 1),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([item for run in runs for item in run], np.int32),
        np.arange(sum(lengths)),
    )


def runs_of(sequences: Sequences) -> dict[int, list[int]]:
    """Return the items of each user."""
    runs = np.split(sequences.items, sequences.offsets[1:-1])
    users = sequences.users.tolist()
    return dict(zip(users, [run.tolist() for run in runs], strict=True))


@pytest.mark.parametrize(
    ("repeats", "expected"),
    [
        ("keep", {1: [5, 6, 5, 5], 2: [5, 6]}),
        ("first", {1: [5, 6], 2: [5, 6]}),
        ("last", {1: [6, 5], 2: [5, 6]}),
    ],
)
def test_handle_repeats_keeps_the_chosen_interaction(
    repeats: Literal["keep", "first", "last"], expected: dict[int, list[int]]
) -> None:
    result = handle_repeats(sequences_of([5, 6, 5, 5], [5, 6]), repeats)
    assert runs_of(result.sequences) == expected
    assert result.num_repeated == 2


def test_handle_repeats_counts_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    runs = [rng.integers(0, 9, rng.integers(1, 20)).tolist() for _ in range(50)]
    expected = sum(len(run) - len(set(run)) for run in runs)
    for rows in (1, 7, 10_000):
        monkeypatch.setattr(
            "shards_tools.raw.pairs.repeats.blocks_of_runs",
            lambda offsets, rows=rows: blocks_of_runs(offsets, rows),
        )
        assert handle_repeats(sequences_of(*runs), "keep").num_repeated == expected


def test_count_repeated_targets_looks_at_the_window_of_the_ranking() -> None:
    split = SplitInfo(keep_last=5, min_interactions=4)
    # test and validation target repeat; neither; the test target repeats an item that is too old
    sequences = sequences_of([1, 2, 1, 2], [1, 2, 3, 4], [9, 1, 2, 3, 4, 9])
    assert count_repeated_targets(sequences, split) == 2
    # the validation target alone
    assert count_repeated_targets(sequences_of([1, 2, 1, 3]), split) == 1


def test_core_of_is_the_largest_part_with_enough() -> None:
    rng = np.random.default_rng(1)
    runs = [rng.zipf(1.5, rng.integers(3, 15)).clip(max=60).tolist() for _ in range(200)]
    core = core_of(sequences_of(*runs), 5, 4)
    # the same in plain Python
    left = dict(enumerate(runs, start=1))
    while True:
        popularity = Counter(item for run in left.values() for item in run)
        trimmed = {u: [i for i in run if popularity[i] >= 4] for u, run in left.items()}
        trimmed = {u: run for u, run in trimmed.items() if len(run) >= 5}
        if trimmed == left:
            break
        left = trimmed
    assert left
    assert runs_of(core.sequences) == left
    assert core.excluded_users == 200 - len(left)
    assert core.excluded_items > 0


def test_clean_counts_and_says_what_was_left_out() -> None:
    log = Interactions(sequences_of([1, 2, 3, 4, 1], [1, 2, 3, 4], [1, 2]), ["a"] * 5)
    cleaned = clean(log, "keep", 4, 1)
    assert cleaned.counts == {
        "repeated_interactions": 1,
        "excluded_users": 1,
        "excluded_items": 0,
        "excluded_interactions": 2,
    }
    assert cleaned.remarks == [
        "the log has 1 interaction with an item that the user watched before; "
        "--repeats first or last keeps one of each",
        "1 user with fewer than 4 interactions was left out, with 2 interactions",
    ]
    cleaned = clean(log, "last", 4, 2)
    assert cleaned.remarks[0].endswith("the last of each stays, because of --repeats last")


def test_clean_without_anything_to_leave_out_says_nothing() -> None:
    log = Interactions(sequences_of([1, 2, 3, 4], [1, 2, 3, 4]), ["a"] * 5)
    cleaned = clean(log, "first", 4, 2)
    assert cleaned.remarks == []
    # a large log is not copied
    assert cleaned.sequences is log.sequences


def test_order_of_groups_is_stable() -> None:
    codes = np.random.default_rng(0).integers(0, 50, 5000).astype(np.int32)
    order = order_of_groups(codes)
    assert order is not None
    assert np.array_equal(order, np.argsort(codes, kind="stable"))
    assert order_of_groups(np.sort(codes)) is None


def test_normalize_ids_agrees_with_normalize_id() -> None:
    texts = [
        "17.0",
        " 17 ",
        "017.00",
        "-3.0",
        "1.05",
        "17.",
        "\u0065\u0301",
        "\u00e9",
        "\u2003a\x1f",
    ]
    expected = [normalize_id(text) for text in texts]
    assert normalize_ids(pa.array(texts, pa.large_string())).to_pylist() == expected


def test_read_interactions_of_too_few_says_what_was_dropped_before(tmp_path: Path) -> None:
    rows = [f"1,{item},{item % 2}\n" for item in range(8)]
    (tmp_path / "x_pairs.csv").write_text("".join(["user,item,label\n", *rows]))
    reason = "no user has 5 interactions. x_pairs.csv: 4 rows with a label of 0 were left out. "
    with pytest.raises(ValueError, match=f"{reason}.*Lower --min-interactions"):
        read_interactions(open_raw(str(tmp_path)), Settings())


def test_settings_that_contradict_are_named_as_options() -> None:
    with pytest.raises(ValueError, match=r"needs --min-interactions of 4 or more"):
        Settings(min_interactions=3)
    with pytest.raises(ValueError, match=r"Set --keep-last 99, or a lower --min-interactions"):
        Settings(min_interactions=99)
