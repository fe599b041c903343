"""Interactions with raw item ids, as readers return them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format.sequence_shards import MAX_RAW_USER_BYTES
from mlrec.data.format.splits import TimeUnit
from mlrec.runtime.printable import counted, printable
from shards_tools.raw.pairs.id_codes import Column
from shards_tools.raw.split import Sequences

MAX_NAMED_COLUMNS = 8
"""Number of unused columns that a remark names."""
MAX_NUMBER_DIGITS = 18
"""Longest whole number that always fits int64."""


@dataclass(frozen=True)
class Interactions:
    """All users' interactions with raw item ids."""

    sequences: Sequences
    """Users' runs, whose items are positions in `raw_ids`, from 0."""
    raw_ids: list[str]
    """Raw item ids, each once."""
    counts: dict[str, int] = field(default_factory=dict)
    """Numbers of rows that were dropped, and the like: entries of the counts of dataset.json."""
    remarks: list[str] = field(default_factory=list)
    """What was dropped, repeated or guessed, a sentence each without its full stop."""
    time_unit: TimeUnit = "unknown"
    """Unit of the sequences' times."""


def number_items(interactions: Interactions) -> Interactions:
    """Return the interactions with only the items that occur, sorted by raw id.

    The order is numeric where all raw ids are whole numbers, otherwise alphabetic. It is the order
    of the catalogue.
    """
    codes = np.flatnonzero(np.bincount(interactions.sequences.items))
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
    return replace(interactions, sequences=sequences, raw_ids=[raw_ids[place] for place in order])


class UserIds(NamedTuple):
    """Ids of users in the data set."""

    numbers: np.ndarray
    """int64 [users]."""
    raw: pa.LargeStringArray | None
    """[users]: raw ids; None if they are the numbers to the letter."""


def user_ids(users: pa.LargeStringArray, name: str) -> UserIds:
    """Return the ids of users whose raw ids in the file `name` are `users`, each once.

    The numbers are the raw ids where all are different whole numbers, otherwise positions from 1.
    The raw ids 7 and 007 are the same number, but different texts.

    Raises:
        ValueError: an id is too long to be stored.
    """
    _check_lengths(users, name)
    if pc.all(pc.match_substring_regex(users, f"^[0-9]{{1,{MAX_NUMBER_DIGITS}}}$")).as_py():
        numbers = users.cast(pa.int64()).to_numpy()
        # 1 and 01 may be two users
        in_order = np.sort(numbers)
        if not np.any(in_order[1:] == in_order[:-1]):
            is_exact = pc.all(pc.match_substring_regex(users, "^(0|[1-9][0-9]*)$")).as_py()
            return UserIds(numbers, None if is_exact else users)
    return UserIds(np.arange(1, len(users) + 1), users)


def _check_lengths(users: pa.LargeStringArray, name: str) -> None:
    """Check that the ids of users can be stored.

    Raises:
        ValueError: one is too long.
    """
    if not len(users):
        return
    is_too_long = pc.greater(pc.binary_length(users), MAX_RAW_USER_BYTES)
    if is_too_long.true_count:
        user = users[pc.index(is_too_long, True).as_py()].as_py()
        raise ValueError(
            f"{name}: the user id {user[:40]!r}... is longer than {MAX_RAW_USER_BYTES} bytes. "
            "Shorten it"
        )


def respelled_remarks(name: str, kind: str, column: Column) -> list[str]:
    """Return the remark about ids whose spelling was changed, if there are any.

    Args:
        name: Name of the file.
        kind: "user" or "item".
    """
    if not column.respelled:
        return []
    spellings = counted(column.respelled, f"{kind} id")
    return [f"{name}: {spellings} had other spellings, such as {column.example}"]


def ignored_remarks(name: str, columns: Sequence[str]) -> list[str]:
    """Return the remark about columns that were not used, if there are any."""
    if not columns:
        return []
    names = ", ".join(printable(column, 40) for column in columns[:MAX_NAMED_COLUMNS])
    more = ", ..." if len(columns) > MAX_NAMED_COLUMNS else ""
    return [f"{name}: {counted(len(columns), 'column')} not used ({names}{more})"]
