"""Ids of a long column as codes: each distinct id is stored once."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.raw_ids import normalize_ids
from mlrec.runtime.printable import printable
from shards_tools.raw.pairs.packed import GrowingArray, flags, take_rows

MAX_SHOWN_CHARACTERS = 60
"""Length at which a message cuts ids."""
MIN_MERGED_IDS = 1 << 20
"""Number of ids of blocks that are merged at once, at least."""


class Column(NamedTuple):
    """A column of ids."""

    codes: np.ndarray
    """int32 [rows]: positions in `ids`."""
    ids: pa.LargeStringArray
    """Distinct ids in their usual spelling, in the order in which they first occur."""
    respelled: int
    """Number of spellings that were changed, spaces around ids aside."""
    example: str
    """One of these and its id, as "'17.0' for 17"; "" if there is none."""


class IdCodes:
    """Collects a column of ids in blocks.

    Every block lists the ids that occur in it. Blocks are merged once they list as many ids as are
    known already, so that each id is hashed a few times, and memory is a few times that of the
    distinct ids.
    """

    def __init__(self) -> None:
        self._ids = pa.array([], pa.large_string())
        self._codes = GrowingArray(np.int32)
        self._pending: list[pa.DictionaryArray] = []
        self._num_pending = 0

    def add(self, column: pa.DictionaryArray) -> None:
        """Add the ids of further rows, as `as_ids` returns them, none of them null."""
        self._pending.append(column)
        self._num_pending += len(column.dictionary)
        if self._num_pending > max(MIN_MERGED_IDS, len(self._ids)):
            self._merge()

    def _merge(self) -> None:
        # a block of no rows with the known ids comes first: so their codes stay as they are
        known = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), self._ids)
        merged = pa.chunked_array([known, *self._pending]).unify_dictionaries()
        self._ids = merged.chunk(0).dictionary
        for chunk in merged.chunks[1:]:
            self._codes.append(chunk.indices.to_numpy())
        self._pending = []
        self._num_pending = 0

    def finish(self) -> Column:
        """Return the column; nothing may be added afterwards."""
        self._merge()
        codes = self._codes.finish()
        stripped = pc.utf8_trim_whitespace(self._ids)
        usual = normalize_ids(stripped)
        if usual.equals(self._ids):
            return Column(codes, usual, 0, "")
        # several spellings may be one id
        encoded = usual.dictionary_encode()
        codes = take_rows(encoded.indices.to_numpy(), codes)
        is_respelled = pc.not_equal(stripped, usual)
        example = ""
        if is_respelled.true_count:
            place = pc.index(is_respelled, True).as_py()
            example = describe_spelling(stripped[place].as_py(), usual[place].as_py())
        return Column(codes, encoded.dictionary, is_respelled.true_count, example)


def describe_spelling(text: str, raw_id: str) -> str:
    """Return a spelling of an id and the id for a message, as "'17.0' for 17"."""
    spelling = repr(printable(text, MAX_SHOWN_CHARACTERS))
    if unicodedata.normalize("NFC", text) == raw_id:
        # they look the same on a terminal
        spelling = ascii(text[:MAX_SHOWN_CHARACTERS])
    return f"{spelling} for {printable(raw_id, MAX_SHOWN_CHARACTERS)}"


def as_ids(column: pa.Array) -> pa.Array:
    """Return a column of ids as a dictionary with int32 indices and large strings.

    Raises:
        ValueError: the ids are numbers with fractions.
    """
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    ids = encoded.dictionary
    if pa.types.is_floating(ids.type):
        # 17.0, as pandas writes a column with gaps; text could be 1e+17
        ids = ids.cast(pa.int64())
    # large strings, because distinct ids may have more than 2 GB
    return pa.DictionaryArray.from_arrays(encoded.indices, ids.cast(pa.large_string()))


def filter_ids(column: pa.DictionaryArray, is_kept: np.ndarray) -> pa.DictionaryArray:
    """Return some rows of a column of ids, without the ids that only other rows have."""
    return column.filter(pa.array(is_kept)).dictionary_decode().dictionary_encode()


def has_id(column: pa.DictionaryArray) -> np.ndarray:
    """Return which rows have an id that is not blank: bool [rows]."""
    is_blank = pc.equal(pc.utf8_trim_whitespace(column.dictionary), "").fill_null(True)
    if not column.null_count and not is_blank.true_count:
        return np.ones(len(column), bool)
    return flags(pc.invert(is_blank.take(column.indices)))
