"""Interactions with raw item ids, as readers return them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mlrec.data.format.sequence_shards import MAX_RAW_USER_BYTES
from shards_tools.raw.split import Sequences

MAX_NUMBER_DIGITS = 18
"""Longest whole number that always fits int64."""


@dataclass(frozen=True)
class Interactions:
    """All users' interactions with raw item ids."""

    sequences: Sequences
    """Users' runs, whose items are positions in `raw_ids`, from 0."""
    raw_ids: list[str]
    """Raw item ids, each once."""


def number_items(interactions: Interactions) -> Interactions:
    """Return the interactions with only the items that occur, sorted by raw id.

    The order is numeric where all raw ids are whole numbers, otherwise alphabetic. It is the order
    of the catalogue.
    """
    # sorted and distinct
    codes = np.unique(interactions.sequences.items)
    raw_ids = [interactions.raw_ids[code] for code in codes]
    is_numeric = all(raw_id.isdecimal() for raw_id in raw_ids)

    def sort_key(place: int) -> tuple[int, str]:
        raw_id = raw_ids[place]
        # by text as well: 7 and 07 are two items of one number
        return (int(raw_id), raw_id) if is_numeric else (0, raw_id)

    order = sorted(range(len(codes)), key=sort_key)
    # position[code] is the place of the item `code` in the new list; other codes do not occur
    position = np.zeros(len(interactions.raw_ids), dtype=np.int32)
    position[codes[order]] = np.arange(len(order))
    sequences = replace(interactions.sequences, items=position[interactions.sequences.items])
    return Interactions(sequences, [raw_ids[place] for place in order])


class UserIds(NamedTuple):
    """Ids of users in the data set."""

    numbers: np.ndarray
    """int64 [users]."""
    raw: pa.LargeStringArray | None
    """[users]: raw ids; None if they are the numbers to the letter."""


def user_ids(users: list[str], url: str) -> UserIds:
    """Return the ids of users whose raw ids in the file at `url` are `users`.

    The numbers are the raw ids where all are different whole numbers, otherwise positions from 1.
    The raw ids 7 and 007 are the same number, but different texts.

    Raises:
        ValueError: a user occurs twice, or an id is too long to be stored.
    """
    _check_users(users, url)
    if all(user.isdecimal() and len(user) <= MAX_NUMBER_DIGITS for user in users):
        numbers = np.array(users, dtype=np.int64)
        # 1 and 01 may be two users
        if len(np.unique(numbers)) == len(numbers):
            is_exact = all(map(str.__eq__, map(str, numbers.tolist()), users))
            return UserIds(numbers, None if is_exact else _strings(users))
    return UserIds(np.arange(1, len(users) + 1), _strings(users))


def _strings(users: list[str]) -> pa.LargeStringArray:
    return pa.array(users, pa.large_string())


def _check_users(users: list[str], url: str) -> None:
    """Check that users are distinct, and that their ids can be stored.

    Raises:
        ValueError: they are not.
    """
    # their rows would have to be merged, in an order that the file does not tell
    if len(set(users)) != len(users):
        repeated = Counter(users).most_common(1)[0][0]
        raise ValueError(
            f"{url}: user {repeated!r} has several lines, spaces around the id aside. "
            "Join them to one"
        )
    for user in users:
        if len(user.encode()) > MAX_RAW_USER_BYTES:
            raise ValueError(
                f"{url}: the user id {user[:40]!r}... is longer than {MAX_RAW_USER_BYTES} bytes. "
                "Shorten it"
            )
