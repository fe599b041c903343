"""Users and items with enough interactions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shards_tools.raw.split import Sequences, with_enough


class Core(NamedTuple):
    """Sequences of users and items that all have enough interactions."""

    sequences: Sequences
    excluded_users: int
    excluded_items: int
    """Number of items that left for lack of interactions, those aside that left with users."""


def core_of(sequences: Sequences, min_interactions: int, min_item_interactions: int) -> Core:
    """Return the largest part of a log in which all users and items have enough interactions.

    Items that leave take their interactions along, so that further users may leave, and again
    items. This is repeated until nothing changes.

    Args:
        min_interactions: Least number of a user's interactions.
        min_item_interactions: Least number of an item's interactions; 1 keeps all.
    """
    num_users = len(sequences.users)
    excluded_items = 0
    remaining = with_enough(sequences, min_interactions)
    while min_item_interactions > 1:
        popularity = np.bincount(remaining.items)
        is_rare = (popularity > 0) & (popularity < min_item_interactions)
        if not is_rare.any():
            break
        excluded_items += int(is_rare.sum())
        remaining = with_enough(remaining.keep(~is_rare[remaining.items]), min_interactions)
    return Core(remaining, num_users - len(remaining.users), excluded_items)
