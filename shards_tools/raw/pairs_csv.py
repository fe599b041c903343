"""Interactions with times, one row each: user,item,timestamp."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from mlrec.runtime.printable import brief, counted, printable
from shards_tools.raw.interactions import Interactions, user_ids
from shards_tools.raw.split import Sequences
from shards_tools.raw.tables import lines, open_table, open_text

COLUMNS = ("user", "item", "timestamp")
"""Names of the columns, in their order."""
CSV_BLOCK_BYTES = 16 << 20
"""Bytes that are parsed at once.

Each block lists the ids that occur in it. Small blocks would repeat nearly all ids over and over.
"""


def read_pairs_csv(url: str) -> Interactions:
    """Return the interactions of rows `user,item,timestamp`, with or without a header.

    A user's rows are sorted by time, and rows of equal time stay in file order. Users stand in the
    order of their first rows.

    Raises:
        ValueError: a row is malformed, or lacks a value.
    """
    table = _read_table(url)
    columns = [table[name] for name in COLUMNS]
    # Memory peaks here: each column is dropped as soon as it is converted.
    del table
    users = _encode(columns.pop(0), url, "user")
    items = _encode(columns.pop(0), url, "item")
    times = columns.pop(0).to_numpy()
    # arrow would keep more memory than all the rest takes
    pa.default_memory_pool().release_unused()
    # lexsort is stable, so that equal times stay in file order
    order = np.lexsort((times, users.codes))
    lengths = np.bincount(users.codes, minlength=len(users.ids))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = user_ids(users.ids, url)
    sequences = Sequences(ids.numbers, offsets, items.codes[order], times[order], ids.raw)
    return Interactions(sequences, items.ids)


def _read_table(url: str) -> pa.Table:
    """Return the rows as a table with COLUMNS, whose ids are dictionary-encoded.

    Raises:
        ValueError: a row is malformed, or has no timestamp.
    """
    # Arrow's own signal handlers lose a Ctrl-C that comes as it finishes.
    pa.enable_signal_handlers(False)
    # Dictionaries, because plain strings of a billion rows are more than arrow holds in one piece.
    ids = pa.dictionary(pa.int32(), pa.string())
    header_rows = _count_header_rows(url)
    read_options = pa_csv.ReadOptions(
        column_names=list(COLUMNS), skip_rows=header_rows, block_size=CSV_BLOCK_BYTES
    )
    convert_options = pa_csv.ConvertOptions(
        column_types={"user": ids, "item": ids, "timestamp": pa.int64()}
    )
    try:
        with open_table(url) as stream:
            table = pa_csv.read_csv(stream, read_options, convert_options=convert_options)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{url}: expected rows of user,item,timestamp with whole timestamps: {brief(error)}"
        ) from error
    num_missing = table["timestamp"].null_count
    if num_missing:
        raise ValueError(f"{url}: {num_missing} rows have no timestamp. Give every row one")
    return table


def _count_header_rows(url: str) -> int:
    """Return the number of rows before the first interaction, blank ones included.

    Raises:
        ValueError: the first row is neither the header nor an interaction.
    """
    with open_text(url) as file:
        for number, line in lines(file):
            cells = [cell.strip().strip('"') for cell in line.split(",")]
            if tuple(cell.lower() for cell in cells) == COLUMNS:
                return number
            # a header of other names has no number in its last cell
            if re.fullmatch(r"-?\d+", cells[-1]):
                return 0
            raise ValueError(
                f"{url}, line {number}: expected the header {','.join(COLUMNS)}, "
                "with the columns in this order, "
                f"or an interaction with a whole timestamp, found {line[:60]!r}"
            )
    return 0


class _Column(NamedTuple):
    """A column of ids."""

    codes: np.ndarray
    """int32 [rows]: positions in `ids`."""
    ids: list[str]
    """Ids without spaces around them, in the order in which they first occur."""


def _encode(column: pa.ChunkedArray, url: str, kind: str) -> _Column:
    """Return the codes of a column of ids.

    Args:
        kind: "user" or "item", for messages.

    Raises:
        ValueError: an id is empty, or different ids are equal without the spaces around them.
    """
    encoded = column.unify_dictionaries().combine_chunks()
    codes = encoded.indices.to_numpy()
    stripped = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
    ids = stripped.dictionary.to_pylist()
    if "" in ids:
        is_empty = stripped.indices.to_numpy()[codes] == ids.index("")
        raise ValueError(
            f"{url}: {np.count_nonzero(is_empty)} rows have no {kind}. Give every row one"
        )
    if len(ids) < len(encoded.dictionary):
        merged = _describe_merged(encoded.dictionary, stripped.indices.to_numpy(), kind)
        raise ValueError(f"{url}: {merged}")
    return _Column(codes, ids)


def _describe_merged(spellings: pa.StringArray, codes: np.ndarray, kind: str) -> str:
    """Return which ids are equal without the spaces around them.

    Args:
        codes: [spellings], the number of each spelling's id without spaces.
    """
    is_merged = np.bincount(codes) > 1
    first_merged = np.flatnonzero(is_merged)[0]
    examples = []
    for place in np.flatnonzero(codes == first_merged)[:2].tolist():
        examples.append(repr(printable(spellings[place].as_py(), 60)))
    num_merged = counted(int(is_merged.sum()), f"{kind} id")
    return (
        f"found {num_merged} with spellings that differ only in the spaces around them, "
        f"such as {' and '.join(examples)}. "
        f"Spaces around ids are removed, which would make them one {kind}. "
        f"Remove the spaces in the file if they are one {kind}, otherwise give them other ids"
    )
