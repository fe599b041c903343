"""Items that a user watched more than once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from mlrec.data.format import SPLITS, SplitInfo
from shards_tools.raw.pairs.packed import PIECE_ROWS, blocks_of_runs
from shards_tools.raw.split import Sequences, cuts_of

Repeats = Literal["keep", "first", "last"]
"""Which of a user's interactions with one item stay: all, the first, or the last."""


class RepeatsResult(NamedTuple):
    """Sequences after repeated items were counted, and removed where this was asked for."""

    sequences: Sequences
    num_repeated: int
    """Number of interactions with an item that the user had before, as they were in the log."""


def handle_repeats(sequences: Sequences, repeats: Repeats) -> RepeatsResult:
    """Count repeated items, and keep only one interaction with each where `repeats` says so."""
    is_surplus = np.zeros(len(sequences.items), bool)
    for first, end in blocks_of_runs(sequences.offsets):
        rows = slice(sequences.offsets[first], sequences.offsets[end])
        owners = np.repeat(np.arange(end - first), sequences.lengths[first:end])
        is_surplus[rows] = _surplus(owners, sequences.items[rows], keep_last=repeats == "last")
    num_repeated = int(np.count_nonzero(is_surplus))
    if num_repeated and repeats != "keep":
        sequences = sequences.keep(~is_surplus)
    return RepeatsResult(sequences, num_repeated)


def _surplus(owners: np.ndarray, items: np.ndarray, keep_last: bool) -> np.ndarray:
    """Return which interactions have an item that their owner also has earlier, or later.

    Args:
        owners: Users of the interactions.
        keep_last: Look for the item later, not earlier.
    """
    is_surplus = np.zeros(len(items), bool)
    keys = owners * (int(items.max(initial=0)) + 1) + items
    # a plain sort is many times faster than argsort, and most logs have no repeats
    in_order = np.sort(keys)
    if not np.any(in_order[1:] == in_order[:-1]):
        return is_surplus
    order = np.argsort(keys, kind="stable")
    is_pair = keys[order[1:]] == keys[order[:-1]]
    is_surplus[(order[:-1] if keep_last else order[1:])[is_pair]] = True
    return is_surplus


def count_repeated_targets(sequences: Sequences, split: SplitInfo) -> int:
    """Return how many held-out targets are in the history that ranking gives the model.

    A model may find these by repeating the history.
    """
    cuts = cuts_of(sequences, split)
    num_repeated = 0
    for name in SPLITS:
        users = np.flatnonzero(cuts.has_target(name))
        length = split.seen_length(name)
        block_users = max(1, PIECE_ROWS // length)
        for start in range(0, len(users), block_users):
            block = users[start : start + block_users]
            targets_U1 = cuts.targets(name)[block, None]
            history_UL = targets_U1 - np.arange(1, length + 1)
            is_history_UL = history_UL >= cuts.starts_U[block, None]
            history_UL = np.maximum(history_UL, 0)
            is_equal_UL = sequences.items[history_UL] == sequences.items[targets_U1]
            num_repeated += int(np.count_nonzero((is_equal_UL & is_history_UL).any(axis=1)))
    return num_repeated
