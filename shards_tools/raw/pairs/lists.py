"""Interactions in lists, one per user, oldest first: collected in blocks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards_tools.raw.pairs.dropped import DroppedRows
from shards_tools.raw.pairs.id_codes import IdCodes, as_ids, filter_ids, has_id
from shards_tools.raw.pairs.interactions import Interactions, respelled_remarks, user_ids
from shards_tools.raw.pairs.packed import GrowingArray, offsets_of
from shards_tools.raw.pairs.rows import RowBlock
from shards_tools.raw.split import Sequences

PADDING = "0"
"""Item that may stand for none."""

_PYTHON_LIST = r"^[\[({]"
_PYTHON_MARKS = r"""[][(){}"',\s]+"""
"""What stands around and between the items of lists as Python and numpy print them."""


class ListCollector:
    """Collects users and their lists of items as Interactions."""

    def __init__(self, name: str) -> None:
        """Take the name of the file, for messages."""
        self._name = name
        self.dropped = DroppedRows(name)
        self._users = IdCodes()
        self._items = IdCodes()
        self._lengths = GrowingArray(np.int64)
        self._num_rows = 0
        self._num_kept = 0

    def add(self, users: pa.Array, lists: pa.ListArray, lines: np.ndarray | None = None) -> None:
        """Add the next users. Rows without user or items are dropped and counted.

        Args:
            users: Strings or numbers.
            lists: Lists of strings or numbers.
            lines: int64 [rows]: number of each row's line in the file; None to count the rows.
        """
        users = as_ids(users)
        items, lengths = _items_of(lists)
        is_row = has_id(users) & (lengths > 0)
        if not is_row.all():
            first = int(np.argmin(is_row))
            line = self._num_rows + first + 1 if lines is None else lines[first]
            user = str(users[first].as_py())[:60]
            example = f"line {line:,} with user {user!r} and {lengths[first]} items"
            self.dropped.add(example, int(np.count_nonzero(~is_row)))
            items = filter_ids(items, np.repeat(is_row, lengths))
            users = filter_ids(users, is_row)
        self._num_rows += len(is_row)
        self._num_kept += len(users)
        self._users.add(users)
        self._items.add(items)
        self._lengths.append(lengths[is_row])

    def finish(self) -> Interactions:
        """Return the interactions of all users, who stand in file order.

        Raises:
            ValueError: too many rows were dropped, a user has several lists, or an id is too long.
        """
        remarks = self.dropped.remarks(self._num_kept)
        counts = {"dropped_rows": self.dropped.count}
        users = self._users.finish()
        if len(users.ids) < len(users.codes):
            repeated = users.ids[int(np.argmax(np.bincount(users.codes) > 1))].as_py()
            raise ValueError(
                f"{self._name}: user {repeated[:60]!r} has several lists. "
                "Join them to one, oldest first"
            )
        remarks += respelled_remarks(self._name, "user", users)
        ids = user_ids(users.ids, self._name)
        items = self._items.finish()
        remarks += respelled_remarks(self._name, "item", items)
        raw_ids = items.ids.to_pylist()
        offsets = offsets_of(self._lengths.finish())
        sequences = Sequences(ids.numbers, offsets, items.codes, raw_users=ids.raw)
        is_padding = _find_padding(sequences, raw_ids)
        num_padding = int(np.count_nonzero(is_padding))
        if num_padding:
            remarks.append(f"{self._name}: {num_padding:,} items 0 that pad lists were left out")
            sequences = sequences.keep(~is_padding)
        return Interactions(sequences, raw_ids, counts, remarks)


def rows_of_lists(
    users: pa.Array,
    lists: pa.ListArray,
    times: pa.ListArray,
    lines: np.ndarray,
    dropped: DroppedRows,
) -> RowBlock:
    """Return the items of lists as rows, each with its time.

    Lists without items, or with another number of times, are dropped, and their items counted.

    Args:
        users: Strings or numbers.
        lists: Lists of strings or numbers.
        times: Lists of strings, numbers, dates or timestamps.
        lines: int64 [lists]: number of each list's line in the file.
    """
    lengths = _lengths_of(lists)
    num_times = _lengths_of(times)
    is_row = (lengths > 0) & (lengths == num_times)
    if not is_row.all():
        first = int(np.argmin(is_row))
        user = str(users[first].as_py())[:60]
        counts = f"{lengths[first]} items and {num_times[first]} times"
        num_dropped = int(np.maximum(lengths, 1)[~is_row].sum())
        dropped.add(f"line {lines[first]:,} with user {user!r}, {counts}", num_dropped)
    owners = np.repeat(np.flatnonzero(is_row), lengths[is_row])
    mask = pa.array(is_row)
    items = lists.filter(mask).flatten()
    return RowBlock(
        users.take(pa.array(owners)), items, times.filter(mask).flatten(), None, lines[owners]
    )


def _lengths_of(lists: pa.ListArray) -> np.ndarray:
    """Return the number of values of each list: int64 [lists]."""
    lengths: np.ndarray = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _find_padding(sequences: Sequences, raw_ids: list[str]) -> np.ndarray:
    """Return which items pad lists to one length: bool [interactions].

    These are zeros that stand at the beginning of lists, or at their end, and nowhere else.
    """
    nothing = np.zeros(len(sequences.items), bool)
    # lists of one length come from tensors; elsewhere 0 is an item like any other
    if PADDING not in raw_ids or len(np.unique(sequences.lengths)) != 1:
        return nothing
    width = int(sequences.lengths[0])
    is_zero = (sequences.items == raw_ids.index(PADDING)).reshape(-1, width)
    # a single one may be an item
    if not np.any(is_zero[:, 1:] & is_zero[:, :-1]):
        return nothing
    for to_end in (is_zero, is_zero[:, ::-1]):
        # along a list, zeros may only turn into items, once
        if not np.any(to_end[:, 1:] > to_end[:, :-1]):
            return np.asarray(is_zero.ravel())
    return nothing


def _items_of(lists: pa.ListArray) -> tuple[pa.DictionaryArray, np.ndarray]:
    """Return the items of all lists, and the number of each list's: int64 [lists]."""
    lengths = _lengths_of(lists)
    # unlike lists.values, this leaves out what null lists and slices hide
    items = as_ids(lists.flatten())
    is_item = has_id(items)
    if not is_item.all():
        owners = np.repeat(np.arange(len(lists)), lengths)
        lengths = np.bincount(owners[is_item], minlength=len(lists))
        items = filter_ids(items, is_item)
    return items, lengths


def split_items(texts: pa.Array, separator: str) -> pa.ListArray:
    """Return the items of each text."""
    texts = pc.utf8_trim_whitespace(texts)
    is_python = pc.match_substring_regex(texts, _PYTHON_LIST)
    if is_python.true_count:
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, _PYTHON_MARKS, " "))
        texts = pc.if_else(is_python, plain, texts)
        # numpy and Python separate items by spaces or commas, of which only spaces are left
        separator = " "
    if separator == " ":
        return pc.utf8_split_whitespace(texts)
    return pc.split_pattern(texts, separator)
