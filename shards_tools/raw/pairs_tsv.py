"""Interactions without times, one line per user: user<TAB>item item ..."""

from __future__ import annotations

from array import array

import numpy as np

from shards_tools.raw.interactions import Interactions, user_ids
from shards_tools.raw.split import Sequences
from shards_tools.raw.tables import lines, open_text


def read_pairs_tsv(url: str) -> Interactions:
    """Return the interactions of lines `user<TAB>item item ...`, oldest first.

    Raises:
        ValueError: a line is malformed, or a user has several.
    """
    codes: dict[str, int] = {}
    users: list[str] = []
    lengths: list[int] = []
    # an array, because a list would take 8 times as much for a billion interactions
    items = array("i")
    with open_text(url) as file:
        for number, line in lines(file):
            user, tab, rest = line.partition("\t")
            raw_items = rest.split()
            if not tab or not user.strip() or not raw_items:
                raise ValueError(
                    f"{url}, line {number}: expected user<TAB>item item ..., found {line[:60]!r}"
                )
            users.append(user.strip())
            # codes in the order of first occurrence; number_items sorts them later
            items.extend([codes.setdefault(item, len(codes)) for item in raw_items])
            lengths.append(len(raw_items))
    ids = user_ids(users, url)
    offsets = np.cumsum([0, *lengths])
    item_codes = np.array(items, dtype=np.int32)
    sequences = Sequences(ids.numbers, offsets, item_codes, raw_users=ids.raw)
    return Interactions(sequences, list(codes))
