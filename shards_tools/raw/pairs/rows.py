"""Interactions in rows of user, item and time: collected in blocks, sorted, and counted once.

The arrays of a billion rows take 24 GB at the peak, so they are freed early and changed in pieces.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.runtime.printable import counted, were
from shards_tools.raw.pairs.dropped import DroppedRows
from shards_tools.raw.pairs.id_codes import IdCodes, as_ids, filter_ids, has_id
from shards_tools.raw.pairs.interactions import Interactions, respelled_remarks, user_ids
from shards_tools.raw.pairs.packed import (
    GrowingArray,
    blocks_of_runs,
    flags,
    offsets_of,
    order_of_groups,
    take_rows,
)
from shards_tools.raw.pairs.times import TIME_FORMS, TimeParser
from shards_tools.raw.split import Sequences

MIN_TIED_SHARE = 0.1
"""Share of rows with the time of the user's row before, from which on a remark says so."""
_FALSE_LABELS = ("0", "0.0", "false", "False")


class RowBlock(NamedTuple):
    """Neighbouring rows of a file."""

    users: pa.Array
    """Strings or numbers, or a dictionary of them."""
    items: pa.Array
    """Like `users`."""
    times: pa.Array | None = None
    """Strings, numbers, dates or timestamps; None if the file has no times."""
    labels: pa.Array | None = None
    """Strings or numbers: 0 where the item was shown to the user, but not watched."""
    lines: np.ndarray | None = None
    """int64 [rows]: number of each row's line in the file; None to count the rows."""


class RowCollector:
    """Collects the rows of a file as Interactions."""

    def __init__(self, name: str) -> None:
        """Take the name of the file, for messages."""
        self._name = name
        self.dropped = DroppedRows(name)
        self._users = IdCodes()
        self._items = IdCodes()
        self._times: GrowingArray | None = None
        self._parser = TimeParser(name)
        self._num_rows = 0
        self._num_kept = 0
        self._num_unwatched = 0

    def add(self, block: RowBlock) -> None:
        """Add the next rows. Rows without user, item or time are dropped and counted.

        Raises:
            ValueError: some times of the file are numbers, others dates.
        """
        users = as_ids(block.users)
        items = as_ids(block.items)
        has_ids = has_id(users) & has_id(items)
        is_row = has_ids
        times = None
        if block.times is not None:
            times, is_time = self._parser.parse(block.times)
            is_row = has_ids & is_time
        if not is_row.all():
            self._count_dropped(block, ~is_row, has_ids)
        if block.labels is not None:
            is_row &= self._is_watched(block.labels, is_row)
        self._num_rows += len(users)
        if not is_row.all():
            users = filter_ids(users, is_row)
            items = filter_ids(items, is_row)
            times = None if times is None else times[is_row]
        self._num_kept += len(users)
        self._users.add(users)
        self._items.add(items)
        if times is not None:
            self._times = self._times or GrowingArray(np.int64)
            self._times.append(times)

    def _count_dropped(self, block: RowBlock, is_dropped: np.ndarray, has_ids: np.ndarray) -> None:
        first = int(np.argmax(is_dropped))
        row = f"row {self._num_rows + first + 1:,}"
        if block.lines is not None:
            row = f"line {block.lines[first]:,}"
        values = []
        for column in (block.users, block.items, block.times):
            if column is not None:
                values.append(repr(str(column[first].as_py())[:60]))
        # with a user and an item, it is the time that cannot be read
        reason = f", whose time is none of {TIME_FORMS}" if has_ids[first] else ""
        self.dropped.add(f"{row} with {', '.join(values)}{reason}", int(is_dropped.sum()))

    def _is_watched(self, labels: pa.Array, is_row: np.ndarray) -> np.ndarray:
        texts = labels.cast(pa.string()).fill_null("")
        is_shown_only = flags(pc.is_in(texts, pa.array(_FALSE_LABELS)))
        self._num_unwatched += int(np.count_nonzero(is_shown_only & is_row))
        return ~is_shown_only

    def finish(self) -> Interactions:
        """Return the interactions of all rows, each user's from the oldest to the newest.

        Users stand in the order of their first rows. Rows of equal time stay in file order. A row
        that repeats user, item and time of an earlier one is left out.

        Raises:
            ValueError: no row is left, too many were dropped, the times have several units, or an
                id is too long.
        """
        remarks = self.dropped.remarks(self._num_kept + self._num_unwatched)
        counts = {"dropped_rows": self.dropped.count}
        if self._num_unwatched:
            unwatched = counted(self._num_unwatched, "row")
            remarks.append(
                f"{self._name}: {unwatched} with a label of 0 {were(self._num_unwatched)} left out"
            )
        users = self._users.finish()
        # arrow would keep the memory of the blocks, and later more than all the rest takes
        pa.default_memory_pool().release_unused()
        remarks += respelled_remarks(self._name, "user", users)
        ids = user_ids(users.ids, self._name)
        offsets = offsets_of(np.bincount(users.codes, minlength=len(users.ids)))
        order = order_of_groups(users.codes)
        # a billion codes are 4 GB
        del users
        items = self._items.finish()
        remarks += respelled_remarks(self._name, "item", items)
        raw_ids = items.ids.to_pylist()
        codes = _in_order(items.codes, order)
        del items
        pa.default_memory_pool().release_unused()
        sequences = Sequences(ids.numbers, offsets, codes, raw_users=ids.raw)
        interactions = Interactions(sequences, raw_ids, counts, remarks)
        if self._times is None:
            remarks.append(f"{self._name}: without times, each user's rows stay in file order")
            return interactions
        times = _in_order(self._times.finish(), order)
        self._times = None
        del order
        return self._with_times(interactions, times)

    def _with_times(self, interactions: Interactions, times: np.ndarray) -> Interactions:
        """Return the interactions sorted by time, those with equal user, item and time once."""
        num_rows = len(times)
        sequences = _sort_by_time(replace(interactions.sequences, times=times))
        num_duplicates = num_rows - len(sequences.items)
        if num_duplicates:
            interactions.remarks.append(
                f"{self._name}: {counted(num_duplicates, 'row')} with the user, item and time of "
                f"another row {were(num_duplicates)} left out"
            )
        interactions.counts["duplicate_rows"] = num_duplicates
        assert sequences.times is not None
        interactions.remarks.extend(self._tie_remarks(sequences))
        # after the sort, because milliseconds may be coarser than the times of the file
        stored = self._parser.store(sequences.times)
        interactions.remarks.extend(stored.remarks)
        sequences = replace(sequences, times=stored.values)
        return replace(interactions, sequences=sequences, time_unit=stored.unit)

    def _tie_remarks(self, sequences: Sequences) -> list[str]:
        """Return the remark about equal times if there are many, as in logs with dates only."""
        num_ties = _num_ties(sequences)
        if num_ties < MIN_TIED_SHARE * len(sequences.items):
            return []
        share = num_ties / len(sequences.items)
        return [
            f"{self._name}: {share:.0%} of the rows have the time of the user's row before; "
            "rows of equal time stay in file order"
        ]


def _in_order(values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return values if order is None else take_rows(values, order)


def _sort_by_time(sequences: Sequences) -> Sequences:
    """Return the sequences sorted by time, without rows that repeat an earlier row.

    The arrays of items and times are changed in place.
    """
    items = sequences.items
    times = sequences.times
    assert times is not None
    lengths = np.zeros(len(sequences.users), np.int64)
    # rows move to the front as earlier ones leave
    num_rows = 0
    for first, end in blocks_of_runs(sequences.offsets):
        rows = slice(sequences.offsets[first], sequences.offsets[end])
        owners = np.repeat(np.arange(end - first), sequences.lengths[first:end])
        order = _distinct_rows(owners, items[rows], times[rows])
        target = slice(num_rows, num_rows + len(order))
        items[target] = items[rows][order]
        times[target] = times[rows][order]
        lengths[first:end] = np.bincount(owners[order], minlength=end - first)
        num_rows += len(order)
    offsets = offsets_of(lengths)
    return replace(sequences, offsets=offsets, items=items[:num_rows], times=times[:num_rows])


def _num_ties(sequences: Sequences) -> int:
    """Return how many interactions have the time of the same user's interaction before."""
    assert sequences.times is not None
    num_ties = 0
    for first, end in blocks_of_runs(sequences.offsets):
        rows = slice(sequences.offsets[first], sequences.offsets[end])
        times = sequences.times[rows]
        is_tie = times[1:] == times[:-1]
        # the first interactions of users have none before
        starts = sequences.offsets[first + 1 : end] - sequences.offsets[first]
        num_ties += int(np.count_nonzero(is_tie) - np.count_nonzero(is_tie[starts - 1]))
    return num_ties


def _distinct_rows(owners: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the rows by owner and time, without those that repeat an earlier row.

    Args:
        owners: Users of the rows, ascending.
    """
    is_same_owner = owners[1:] == owners[:-1]
    order = np.arange(len(owners))
    if np.any(is_same_owner & (times[1:] < times[:-1])):
        # stable: rows of equal time stay in file order
        order = np.lexsort((times, owners))
    sorted_times = times[order]
    if not np.any(is_same_owner & (sorted_times[1:] == sorted_times[:-1])):
        return order
    # Equal rows need not be neighbours: two items may alternate at one time.
    by_item = np.lexsort((items[order], sorted_times, owners))
    keys = (owners[by_item], sorted_times[by_item], items[order][by_item])
    is_repeat = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    is_distinct = np.ones(len(order), bool)
    is_distinct[by_item[1:][is_repeat]] = False
    return order[is_distinct]
