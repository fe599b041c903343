"""Interactions in text files: rows or lists, with any usual separator, with or without header."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pyarrow as pa

from mlrec.runtime.printable import counted
from shards_tools.raw.pairs.interactions import Interactions, ignored_remarks
from shards_tools.raw.pairs.lists import ListCollector, rows_of_lists, split_items
from shards_tools.raw.pairs.rows import RowBlock, RowCollector
from shards_tools.raw.pairs.text_blocks import IDS, read_blocks, split_off_user
from shards_tools.raw.pairs.text_layout import TextLayout, read_head, read_layout

_NUMBERS = re.compile(r"\s*[0-9]+([\s,;|]+[0-9]+)+\s*")


def read_text(url: str) -> Interactions:
    """Return the interactions of a text file, whose content decides its layout.

    A user's rows are sorted by time, and rows of equal time stay in file order. Rows and lists
    without times stay in file order. Users stand in the order of their first lines.

    Raises:
        ValueError: the file is not UTF-8, its layout is not recognized, too many lines are
            malformed, or a user has several lists.
    """
    name = PurePosixPath(url).name
    layout = read_layout(url)
    interactions = _read_lists(url, layout) if layout.columns.has_lists else _read_rows(url, layout)
    interactions.remarks.extend(ignored_remarks(name, layout.ignored))
    if layout.left_out:
        num_lines = counted(len(layout.left_out), "line")
        example = layout.left_out[0][:60]
        interactions.remarks.append(
            f"{name}: {num_lines} of comments or types before the first row left out, "
            f"such as {example!r}"
        )
    return interactions


def is_table_of_numbers(url: str) -> bool:
    """Return whether the file at `url` begins with lines of several whole numbers, and no other."""
    try:
        rows = [line for line in read_head(url) if line.strip()]
    except ValueError:
        # not text, or in another encoding
        return False
    return bool(rows) and all(map(_NUMBERS.fullmatch, rows))


def _read_rows(url: str, layout: TextLayout) -> Interactions:
    """Return the interactions of lines with one each."""
    columns = layout.columns
    types = {columns.user: IDS, columns.items: IDS}
    for optional in (columns.time, columns.label):
        if optional is not None:
            types[optional] = pa.string()
    rows = RowCollector(PurePosixPath(url).name)
    for block in read_blocks(url, layout, types, rows.dropped):
        values = dict(zip(types, block.columns, strict=True))
        times = None if columns.time is None else values[columns.time]
        labels = None if columns.label is None else values[columns.label]
        users = values[columns.user]
        items = values[columns.items]
        rows.add(RowBlock(users, items, times, labels, block.lines))
    return rows.finish()


def _read_lists(url: str, layout: TextLayout) -> Interactions:
    """Return the interactions of lines with a user's items each, oldest first."""
    if layout.columns.time is not None:
        return _read_timed_lists(url, layout)
    lists = ListCollector(PurePosixPath(url).name)
    types = {0: pa.large_string()}
    if layout.num_columns:
        types = {layout.columns.user: IDS, layout.columns.items: pa.large_string()}
    for block in read_blocks(url, layout, types, lists.dropped):
        columns = block.columns
        if not layout.num_columns:
            columns = split_off_user(columns[0], layout.delimiter)
        lists.add(columns[0], split_items(columns[1], layout.item_separator), block.lines)
    return lists.finish()


def _read_timed_lists(url: str, layout: TextLayout) -> Interactions:
    """Return the interactions of lines with a user's items and their times."""
    rows = RowCollector(PurePosixPath(url).name)
    columns = layout.columns
    assert columns.time is not None
    types = {columns.user: IDS, columns.items: pa.large_string(), columns.time: pa.large_string()}
    for block in read_blocks(url, layout, types, rows.dropped):
        users, items, times = block.columns
        item_lists = split_items(items, layout.item_separator)
        time_lists = split_items(times, layout.item_separator)
        rows.add(rows_of_lists(users, item_lists, time_lists, block.lines, rows.dropped))
    return rows.finish()
