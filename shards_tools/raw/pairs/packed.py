"""Long arrays, changed in pieces so that no second copy of them is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PIECE_ROWS = 1 << 20
"""Number of elements that are changed at once."""
GROWTH = 16
"""A full array grows by one part in this many."""


class GrowingArray:
    """An array that grows block by block, in place.

    Blocks that are kept until their number is known take twice the memory when they are joined.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._values = np.empty(0, dtype)
        self._length = 0

    def append(self, values: np.ndarray) -> None:
        """Add values; the array becomes float64 if they are."""
        if values.dtype.kind == "f" and self._values.dtype.kind != "f":
            self._values = self._values.astype(np.float64)
        length = self._length + len(values)
        if length > len(self._values):
            # the system extends a large array without a copy
            capacity = max(length, len(self._values) + len(self._values) // GROWTH)
            self._values.resize(capacity, refcheck=False)
        self._values[self._length : length] = values
        self._length = length

    def finish(self) -> np.ndarray:
        """Return the array; nothing may be appended afterwards."""
        self._values.resize(self._length, refcheck=False)
        return self._values


def take_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return values[rows]. numpy would first copy all of `rows` to int64."""
    taken = np.empty(len(rows), values.dtype)
    for start in range(0, len(rows), PIECE_ROWS):
        piece = slice(start, start + PIECE_ROWS)
        taken[piece] = values[rows[piece]]
    return taken


def order_of_groups(codes: np.ndarray) -> np.ndarray | None:
    """Return the rows in the order of their codes, rows of equal code as they stand.

    Args:
        codes: int32 [rows], not negative.

    Returns:
        uint32 or int64 [rows]; None if the rows are in this order.
    """
    if not np.any(codes[1:] < codes[:-1]):
        return None
    num_rows = len(codes)
    if num_rows > 1 << 32:
        return np.argsort(codes, kind="stable")
    # One number per row, with the code in its upper half: sorted in place, and far faster than
    # argsort, which would take as much memory again.
    keys = codes.astype(np.int64)
    keys <<= 32
    for start in range(0, num_rows, PIECE_ROWS):
        stop = min(start + PIECE_ROWS, num_rows)
        keys[start:stop] |= np.arange(start, stop)
    keys.sort()
    order = np.empty(num_rows, np.uint32)
    for start in range(0, num_rows, PIECE_ROWS):
        piece = slice(start, start + PIECE_ROWS)
        order[piece] = keys[piece] & 0xFFFFFFFF
    return order


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where runs of these lengths begin, and the end of the last: int64 [runs + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def blocks_of_runs(offsets: np.ndarray, rows: int = PIECE_ROWS) -> Iterator[tuple[int, int]]:
    """Yield the first run and the end of blocks of runs, each of about `rows` rows.

    Args:
        offsets: int64 [runs + 1]: starts of the runs, and the end of the last.
    """
    num_runs = len(offsets) - 1
    first = 0
    while first < num_runs:
        last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
        # a run may be longer than a block
        end = min(max(last, first + 1), num_runs)
        yield first, end
        first = end


def flags(values: pa.BooleanArray) -> np.ndarray:
    """Return the values as numpy's: bool [values], False where they are null."""
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), bool)
