"""The layout of a text file with interactions, recognized by its first lines."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from itertools import takewhile

from shards_tools.raw.pairs.columns import Columns, find_columns, ignored_columns
from shards_tools.raw.tables import open_text

HEAD_CHARACTERS = 1 << 20
"""Length of the beginning of a file that its layout is recognized by."""
MAX_HEAD_LINES = 1000
DELIMITERS = "\t,;|"
"""Separators of columns, in the order in which they are tried; lists may use spaces as well."""

MIN_EPOCH = 10**8
"""Least number that is a time for sure: seconds since 1970 in the year 1973."""

TYPE_NAMES = ("int", "integer", "int64", "float", "str", "string", "list", "date", "datetime")
"""What a line of types below a header may say."""

_BRACKETS = ("[", "(", "{")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_TIME = re.compile(rf"({_NUMBER.pattern})|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}.*")
_LIST = re.compile(r"[\[({].*|\S+[\s,;|]+\S.*")
"""Several items in one cell, or Python's brackets around any number of them."""


@dataclass(frozen=True)
class TextLayout:
    """How the lines of a text file hold interactions."""

    delimiter: str
    """Separator of the columns; " " is any white space."""
    columns: Columns
    num_columns: int
    """0 for lines of a user and any number of items."""
    header_lines: int
    """Number of lines before the first interaction, blank ones included."""
    ignored: tuple[str, ...] = ()
    """Names of columns that are not used."""
    item_separator: str = " "
    """Separator of the items in a list; " " is any white space."""
    left_out: tuple[str, ...] = ()
    """Comments before the first row, and a line with the types of the columns."""


def read_layout(url: str) -> TextLayout:
    """Return the layout of the text file at `url`.

    Raises:
        ValueError: it is empty, not UTF-8, or its layout is not recognized.
    """
    lines = read_head(url)
    # blank lines are no rows
    rows = [line for line in lines if line.strip()]
    if not rows:
        raise ValueError(f"{url} has no interactions: it is empty")
    comments = list(takewhile(_is_comment, rows))
    # where all lines begin like comments, ids do
    if len(comments) == len(rows):
        comments = []
    rows = rows[len(comments) :]
    num_skipped = lines.index(rows[0])
    layout = _with_header(url, rows[0])
    if layout is None:
        layout = _without_header(url, rows)
    else:
        layout = _fit_width(_without_types(layout, rows), rows)
    layout = _without_single_times(layout, rows)
    separator = _item_separator(layout, rows[layout.header_lines :])
    return replace(
        layout,
        header_lines=num_skipped + layout.header_lines,
        item_separator=separator,
        left_out=(*comments, *layout.left_out),
    )


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _without_types(layout: TextLayout, rows: list[str]) -> TextLayout:
    """Return the layout without a line of types, such as int and list, below the header."""
    cells = split_line(rows[1], layout.delimiter) if len(rows) > 1 else []
    if not cells or not all(cell.strip().lower() in TYPE_NAMES for cell in cells):
        return layout
    return replace(layout, header_lines=layout.header_lines + 1, left_out=(rows[1],))


def _fit_width(layout: TextLayout, rows: list[str]) -> TextLayout:
    """Return the layout of rows that have more cells than the header names."""
    cells = [split_line(row, layout.delimiter) for row in rows[layout.header_lines :]]
    if not cells or _width_of(cells) <= layout.num_columns:
        return layout
    if _width_of(cells) == layout.num_columns + 1 and _end_in_separators(cells):
        return replace(layout, num_columns=layout.num_columns + 1)
    has_lists = any(_LIST.fullmatch(cell.strip()) for row in cells for cell in row[1:])
    # each item has a cell of its own, unless a further column has no name
    if not has_lists and layout.num_columns == 2 and layout.columns == Columns(0, 1, True):
        return replace(layout, num_columns=0)
    return layout


def _end_in_separators(cells: list[list[str]]) -> bool:
    """Return whether most lines have a separator after their last cell."""
    return _is_mostly([len(row) > 2 and not row[-1].strip() for row in cells])


def _without_single_times(layout: TextLayout, rows: list[str]) -> TextLayout:
    """Return the layout without a column that has one time for a list of items."""
    columns = layout.columns
    if not columns.has_lists or columns.time is None:
        return layout
    for row in rows[layout.header_lines :]:
        cells = split_line(row, layout.delimiter)
        if len(cells) == layout.num_columns and _LIST.fullmatch(cells[columns.time].strip()):
            return layout
    name = split_line(rows[0], layout.delimiter)[columns.time]
    return replace(layout, columns=columns._replace(time=None), ignored=(*layout.ignored, name))


def _item_separator(layout: TextLayout, rows: list[str]) -> str:
    """Return what separates the items of lists: the white space, or the mark that most have."""
    lists = []
    for row in rows:
        if layout.num_columns:
            cells = split_line(row, layout.delimiter)
            lists += cells[layout.columns.items : layout.columns.items + 1]
        else:
            lists.append(row.strip().partition(layout.delimiter)[2])
    if any(" " in items.strip() for items in lists):
        return " "
    marks = [mark for mark in DELIMITERS if any(mark in items for items in lists)]
    return marks[0] if marks else " "


def read_head(url: str) -> list[str]:
    with open_text(url) as file:
        head = file.read(HEAD_CHARACTERS)
    lines = head.splitlines()
    # the last line is cut in the middle
    if len(head) == HEAD_CHARACTERS and len(lines) > 1:
        lines.pop()
    return lines[:MAX_HEAD_LINES]


def _with_header(url: str, first: str) -> TextLayout | None:
    """Return the layout that the names in the first line tell; None if they tell none.

    Raises:
        ValueError: several columns may be the users, the items or the times.
    """
    for delimiter in (*DELIMITERS, " "):
        names = split_line(first, delimiter)
        columns = find_columns(names, url)
        if columns is not None:
            ignored = tuple(ignored_columns(names, columns))
            return TextLayout(delimiter, columns, len(names), 1, ignored)
    return None


def _without_header(url: str, rows: list[str]) -> TextLayout:
    """Return the layout that the first lines have without names.

    Raises:
        ValueError: it is not recognized.
    """
    delimiter = _delimiter_of(rows)
    cells, num_empty = _named_cells(rows, delimiter)
    width = _width_of(cells)
    columns = None
    if not _is_header(cells, width):
        columns = _columns_of(cells, width, delimiter)
    if columns is None:
        raise ValueError(
            f"{url}: the columns of its first line, {rows[0][:60]!r}, were not "
            "recognized. Name them in a header line with the same separator, such as "
            "user,item,timestamp or user,items"
        )
    # a list may have any number of columns of its own
    has_columns = not columns.has_lists or (width == 2 and delimiter != " ")
    return TextLayout(delimiter, columns, width + num_empty if has_columns else 0, 0)


def _named_cells(rows: list[str], delimiter: str) -> tuple[list[list[str]], int]:
    """Return the cells of each line, and the number of empty ones, 0 or 1, cut off from its end."""
    cells = [split_line(row, delimiter) for row in rows]
    if not _end_in_separators(cells):
        return cells, 0
    width = _width_of(cells)
    return [row[: width - 1] if len(row) == width else row for row in cells], 1


def _delimiter_of(rows: list[str]) -> str:
    """Return the separator of columns: the first that gives rows with times, or that is there."""
    marks = [mark for mark in DELIMITERS if mark in rows[0]]
    for mark in marks:
        cells, _ = _named_cells(rows, mark)
        columns = _columns_of(cells, _width_of(cells), mark)
        if columns is not None and columns.time is not None:
            return mark
    return marks[0] if marks else " "


def _width_of(cells: list[list[str]]) -> int:
    """Return the number of cells that most lines have, as some may be malformed."""
    widths = sorted(map(len, cells))
    return widths[len(widths) // 2]


def _columns_of(cells: list[list[str]], width: int, delimiter: str) -> Columns | None:
    """Return the columns of lines without names; None if they are not recognized.

    Args:
        cells: Cells of each line.
        width: Number of cells of most lines.
    """
    lists = Columns(0, 1, has_lists=True)
    has_one_width = sum(len(row) == width for row in cells) > 0.9 * len(cells)
    if not has_one_width or (width > 2 and cells[0][1].strip().startswith(_BRACKETS)):
        return lists
    if width == 2:
        is_list = [bool(_LIST.fullmatch(row[-1].strip())) for row in cells]
        return Columns(0, 1, has_lists=any(is_list))
    times = [row[-1].strip() for row in cells]
    if delimiter == " ":
        # lists of equal length look the same, but for the size of times
        is_time = [bool(_NUMBER.fullmatch(time)) and float(time) > MIN_EPOCH for time in times]
        return Columns(0, 1, False, time=2) if width == 3 and _is_mostly(is_time) else lists
    is_time = [bool(_TIME.fullmatch(time)) for time in times]
    return Columns(0, 1, False, time=2) if width == 3 and _is_mostly(is_time) else None


def _is_header(cells: list[list[str]], width: int) -> bool:
    """Return whether the first line has a text where all others have a number."""
    others = [row for row in cells[1:] if len(row) == width]
    if not others or len(cells[0]) != width:
        return False
    for place, cell in enumerate(cells[0]):
        is_number = [bool(_NUMBER.fullmatch(row[place].strip())) for row in others]
        # dates and lists have digits as well
        if _is_mostly(is_number) and not re.search("[0-9]", cell):
            return True
    return False


def _is_mostly(flags: list[bool]) -> bool:
    return sum(flags) > 0.9 * len(flags)


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, without quotes around them."""
    if delimiter == " ":
        return line.split()
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
