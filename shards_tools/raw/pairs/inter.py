"""Interactions in .inter files of RecBole and MMRec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from mlrec import storage
from mlrec.data.raw_ids import normalize_id
from mlrec.runtime.printable import printable
from shards_tools.raw.pairs.columns import plain_name
from shards_tools.raw.pairs.interactions import Interactions, user_ids
from shards_tools.raw.pairs.text import read_text
from shards_tools.raw.pairs.text_layout import DELIMITERS, split_line
from shards_tools.raw.tables import lines, open_text

MAPPINGS = {"userid": "u_id_mapping.csv", "itemid": "i_id_mapping.csv"}
"""MMRec's files with the original id of each number in a .inter file, by the number's column."""


def read_inter(url: str) -> Interactions:
    """Return the interactions of a .inter file.

    MMRec numbers users and items. Where its mappings are in the same folder, the raw ids are the
    original ones.

    Raises:
        ValueError: the file is malformed like one of `read_text`, or a mapping does not fit it.
    """
    interactions = read_text(url)
    item_url = _mapping_url(url, "itemid")
    if item_url is not None:
        raw_ids = _originals(interactions.raw_ids, item_url, "itemid")
        interactions = replace(interactions, raw_ids=raw_ids)
    user_url = _mapping_url(url, "userid")
    if user_url is not None:
        sequences = interactions.sequences
        numbers = sequences.raw_users
        if numbers is None:
            numbers = pa.array(sequences.users).cast(pa.large_string())
        users = _originals(numbers.to_pylist(), user_url, "userid")
        ids = user_ids(pa.array(users, pa.large_string()), user_url)
        sequences = replace(sequences, users=ids.numbers, raw_users=ids.raw)
        interactions = replace(interactions, sequences=sequences)
    return interactions


def _mapping_url(url: str, column: str) -> str | None:
    """Return the URL of a mapping beside the .inter file at `url`; None if there is none."""
    mapping = storage.join(url.rpartition("/")[0], MAPPINGS[column])
    return mapping if storage.exists(mapping) else None


def _originals(numbers: Sequence[str], url: str, column: str) -> list[str]:
    """Return the original ids of numbers.

    Args:
        url: URL of the mapping.
        column: Plain name of its column of numbers; the first other column has the ids.

    Raises:
        ValueError: the mapping lacks a number, or two of them have one id.
    """
    original = _read_mapping(url, column)
    missing = [number for number in numbers if number not in original]
    if missing:
        raise ValueError(
            f"{url} lacks {len(missing):,} of the {len(numbers):,} numbers in the .inter file, "
            f"such as {printable(missing[0], 60)}. Give the mapping that belongs to the file, "
            "or remove it to use the numbers as ids"
        )
    ids = [original[number] for number in numbers]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{url} gives several numbers the same id. Correct it")
    return ids


def _read_mapping(url: str, column: str) -> dict[str, str]:
    """Return the original id of each number.

    Raises:
        ValueError: the header does not name a column of numbers and another one.
    """
    original = {}
    with open_text(url) as file:
        rows = lines(file)
        _, header = next(rows, (0, ""))
        delimiter = next((mark for mark in DELIMITERS if mark in header), ",")
        names = [plain_name(name) for name in split_line(header, delimiter)]
        # the names user_id, of the ids, and userID, of the numbers, differ in no letter
        numbers = [place for place, name in enumerate(names) if name == column][-1:]
        ids = [place for place, name in enumerate(names) if name and place not in numbers]
        if not numbers or not ids:
            raise ValueError(
                f"{url}, line 1: expected the columns of an id and of its number, such as "
                f"asin and itemID, not {header[:60]!r}"
            )
        for _, line in rows:
            cells = split_line(line, delimiter)
            if len(cells) == len(names):
                original[normalize_id(cells[numbers[0]])] = normalize_id(cells[ids[0]])
    return original
