"""Interactions in Parquet tables: rows of user, item and time, or lists of items per user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlrec.runtime.printable import brief, printable
from mlrec.storage.seekable import open_seekable
from shards_tools.raw.pairs.columns import Columns, find_columns, ignored_columns
from shards_tools.raw.pairs.interactions import Interactions, ignored_remarks
from shards_tools.raw.pairs.lists import ListCollector, rows_of_lists, split_items
from shards_tools.raw.pairs.rows import RowBlock, RowCollector

BATCH_ROWS = 1 << 19
"""Rows that are read at once."""


def read_parquet(url: str) -> Interactions:
    """Return the interactions of a Parquet table, whose columns are recognized by their names.

    Order and users are those of `read_text`.

    Raises:
        ValueError: the file is damaged, a column is missing or of an unusual type, too many rows
            are malformed, or a user has several lists.
    """
    name = PurePosixPath(url).name
    try:
        with open_seekable(url) as stream:
            # with pre_buffer, all bytes that were read would stay in memory
            return _read(pq.ParquetFile(stream, pre_buffer=False), name)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{url} cannot be read as a Parquet table: {brief(error)}") from error


def _read(file: pq.ParquetFile, name: str) -> Interactions:
    schema = file.schema_arrow
    columns = find_columns(schema.names, name)
    if columns is None:
        names = ", ".join(printable(column, 40) for column in schema.names[:20])
        raise ValueError(
            f"{name} has no columns of users and items; its columns are {names}. "
            "Name them user_id and item_id, or item_seq for lists"
        )
    columns = _with_types(columns, schema)
    batches = _batches(file, columns)
    if not columns.has_lists:
        interactions = _read_rows(batches, columns, name)
    elif columns.time is None:
        interactions = _read_lists(batches, columns, name)
    else:
        interactions = _read_timed_lists(batches, columns, name)
    ignored = ignored_columns(schema.names, columns)
    interactions.remarks.extend(ignored_remarks(name, ignored))
    return interactions


def _with_types(columns: Columns, schema: pa.Schema) -> Columns:
    """Return the columns, with lists told by their types, and times only if they are like items."""
    has_lists = columns.has_lists or pa.types.is_nested(schema.field(columns.items).type)
    time = columns.time
    if time is not None and pa.types.is_nested(schema.field(time).type) != has_lists:
        time = None
    return columns._replace(has_lists=has_lists, time=time)


def _batches(file: pq.ParquetFile, columns: Columns) -> Iterator[dict[int, pa.Array]]:
    """Yield the columns of interactions by their positions, block by block."""
    places = [place for place in columns if type(place) is int]
    names = [file.schema_arrow.names[place] for place in places]
    for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        yield {place: batch.column(column) for place, column in zip(places, names, strict=True)}


def _read_rows(batches: Iterator[dict[int, pa.Array]], columns: Columns, name: str) -> Interactions:
    rows = RowCollector(name)
    for batch in batches:
        times = None if columns.time is None else batch[columns.time]
        labels = None if columns.label is None else batch[columns.label]
        rows.add(RowBlock(batch[columns.user], batch[columns.items], times, labels))
    return rows.finish()


def _read_lists(
    batches: Iterator[dict[int, pa.Array]], columns: Columns, name: str
) -> Interactions:
    lists = ListCollector(name)
    for batch in batches:
        lists.add(batch[columns.user], _item_lists(batch[columns.items]))
    return lists.finish()


def _read_timed_lists(
    batches: Iterator[dict[int, pa.Array]], columns: Columns, name: str
) -> Interactions:
    assert columns.time is not None
    rows = RowCollector(name)
    num_rows = 0
    for batch in batches:
        users = batch[columns.user]
        items = _item_lists(batch[columns.items])
        numbers = np.arange(num_rows + 1, num_rows + len(users) + 1)
        rows.add(rows_of_lists(users, items, batch[columns.time], numbers, rows.dropped))
        num_rows += len(users)
    return rows.finish()


def _item_lists(items: pa.Array) -> pa.ListArray:
    """Return lists of items, which may be texts with spaces between the items."""
    return (
        items if pa.types.is_nested(items.type) else split_items(items.cast(pa.large_string()), " ")
    )
