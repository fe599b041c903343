"""Text tables of items, whatever their separator and the order of their columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, TextIO

from mlrec.data.raw_ids import IdMatcher
from shards_tools.raw.items.columns import (
    TITLE,
    Columns,
    Kind,
    Row,
    columns_by_name,
    columns_by_values,
    most_items,
    num_known_names,
    quoted_cells,
)

SEPARATORS = (",", "\t", ";", "|")
SPACE = " "
"""Separator of counts, and of titles with a header."""
MAX_SAMPLE_LINES = 20_000
"""Lines at the start of a table that tell its separator and columns."""
MAX_SAMPLE_CHARACTERS = 16 << 20
MAX_LINE_CHARACTERS = 1 << 20


class _Layout(NamedTuple):
    """How a text table holds its columns."""

    separator: str
    names: Sequence[str]
    """The header; empty if there is none."""
    columns: Columns


class TextTable:
    """The rows of a text table.

    An unclosed quote swallows all rows up to the next quote. It is recognized by a line within a
    row that has an item where items belong.
    """

    def __init__(self, file: TextIO, kinds: Sequence[Kind], matcher: IdMatcher, url: str) -> None:
        """Read the first lines, which tell the columns.

        Raises:
            ValueError: the columns are not recognized.
        """
        lines = _bounded_lines(file, url)
        sample = _first_lines(lines)
        self._layout = _find_layout(sample, kinds, matcher, url)
        self._text = chain(sample, lines)
        self._is_titles = kinds == (TITLE,)
        self._matcher = matcher
        self._url = url
        self._first_line = 1
        """Number of the line where the current row begins."""
        self._last_line = 0
        """Number of the line that was read last."""
        self.names = self._layout.names
        self.num_joined = 0
        """Rows so far with more cells than the header, whose surplus was joined to the title."""

    def __iter__(self) -> Iterator[Row]:
        is_header = bool(self.names)
        try:
            for cells in _parse(self._lines(), self._layout.separator):
                # blank lines have no cells, or only spaces
                if any(map(str.strip, cells)):
                    if not is_header:
                        yield self._row(cells)
                    is_header = False
                self._first_line = self._last_line + 1
        except csv.Error as error:
            raise self._malformed(error) from error

    def _row(self, cells: list[str]) -> Row:
        separator, names, columns = self._layout
        surplus = len(cells) - columns.width
        if surplus and not self._is_titles:
            raise ValueError(
                f"{self._url}, line {self._first_line}: expected {columns.width} columns, "
                f"found {len(cells)}: {quoted_cells(cells)}. Correct the line"
            )
        if surplus > 0:
            # a title with bare separators
            title = slice(columns.values[0], columns.values[0] + surplus + 1)
            cells[title] = [separator.join(cells[title])]
            self.num_joined += bool(names)
        elif surplus < 0:
            cells += [""] * -surplus
        return Row(self._first_line, cells[columns.item], [cells[i] for i in columns.values])

    def _lines(self) -> Iterator[str]:
        for line in self._text:
            self._last_line += 1
            # a line at the start of a row is where an item belongs
            if self._last_line > self._first_line:
                item = self._item_of(line)
                if item is not None:
                    raise self._unclosed(
                        f"line {self._last_line} with item {item} would be part of its title"
                    )
            yield line

    def _item_of(self, line: str) -> str | None:
        """Return the item of a line as it is spelled there; None if it has none."""
        separator, _, columns = self._layout
        cells = line.split(separator)
        if len(cells) < columns.width:
            return None
        is_before_title = columns.item < columns.values[0]
        place = columns.item if is_before_title else columns.item - columns.width
        item = cells[place].strip()
        return None if self._matcher.match(item.strip('"')) is None else item

    def _malformed(self, error: csv.Error) -> ValueError:
        if self._first_line < self._last_line:
            return self._unclosed(str(error))
        return ValueError(
            f"{self._url}, line {self._first_line}: a cell has more than "
            f"{csv.field_size_limit():,} characters. Shorten it"
        )

    def _unclosed(self, reason: str) -> ValueError:
        return ValueError(
            f"{self._url}, line {self._first_line}: "
            f"the row that begins here has a quote that is not closed ({reason}). "
            'Close it there, or double it ("") where it belongs to the title'
        )


def _bounded_lines(file: TextIO, url: str) -> Iterator[str]:
    """Yield the lines of a file.

    Raises:
        ValueError: one is longer than MAX_LINE_CHARACTERS.
    """
    number = 0
    while line := file.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise ValueError(
                f"{url}, line {number}: it has more than {MAX_LINE_CHARACTERS:,} characters. "
                "Write each item on a line of its own, with a shorter title"
            )
        yield line


def _first_lines(lines: Iterator[str]) -> list[str]:
    """Return the lines that tell the layout, and take them from `lines`."""
    sample = []
    num_characters = 0
    for line in islice(lines, MAX_SAMPLE_LINES):
        sample.append(line)
        num_characters += len(line)
        if num_characters > MAX_SAMPLE_CHARACTERS:
            break
    return sample


def _find_layout(
    sample: Sequence[str], kinds: Sequence[Kind], matcher: IdMatcher, url: str
) -> _Layout:
    """Return the layout that the first lines of a table have.

    Raises:
        ValueError: it is not recognized.
    """
    lines = [line for line in sample if line.strip()]
    usual = Columns(1 + len(kinds), 0, tuple(range(1, 1 + len(kinds))))
    if not lines:
        return _Layout(",", (), usual)
    headers = {mark: _first_row(lines[0], mark) for mark in (*SEPARATORS, SPACE)}
    # spaces are in titles as well
    marks = (*SEPARATORS, SPACE) if _is_all_names(headers[SPACE], kinds) else SEPARATORS
    separator = max(marks, key=lambda mark: _num_known(headers[mark], kinds))
    names = headers[separator]
    if _is_header(names, kinds, matcher):
        rows = _sample_rows(lines, separator)[1:]
        return _Layout(separator, names, columns_by_name(names, rows, kinds, matcher, url))
    if kinds != (TITLE,):
        # Counts may be numbers of items as well: without names their order must be the usual one.
        fitting = [mark for mark in headers if len(headers[mark]) == usual.width]
        return _Layout((*fitting, "\t")[0], (), usual)
    separator = _separator_by_values(lines, matcher)
    columns = columns_by_values(_sample_rows(lines, separator), matcher, url)
    return _Layout(separator, (), columns)


def _is_header(names: Sequence[str], kinds: Sequence[Kind], matcher: IdMatcher) -> bool:
    # a title may be "Title", but not in the row of an item
    has_item = any(matcher.match(name) is not None for name in names)
    return _num_known(names, kinds) > 0 and not has_item


def _is_all_names(names: Sequence[str], kinds: Sequence[Kind]) -> bool:
    return _num_known(names, kinds) == len(names)


def _num_known(names: Sequence[str], kinds: Sequence[Kind]) -> int:
    # the whole line, with all after the first colon left out, is no name
    return num_known_names(names, kinds) if len(names) > 1 else 0


def _separator_by_values(lines: Sequence[str], matcher: IdMatcher) -> str:
    """Return the separator with which a column holds the most items."""
    num_items = {}
    for mark in SEPARATORS:
        # titles have separators as well, but not all of them
        is_usual = 2 * sum(mark in line for line in lines) >= len(lines)
        num_items[mark] = most_items(_sample_rows(lines, mark), matcher) if is_usual else 0
    return max(num_items, key=lambda mark: num_items[mark])


def _parse(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator == SPACE)


def _first_row(line: str, separator: str) -> list[str]:
    rows = _sample_rows([line], separator)
    return rows[0] if rows else []


def _sample_rows(lines: Iterable[str], separator: str) -> list[list[str]]:
    """Return the rows up to the first malformed one, which is reported when it is read."""
    rows = []
    try:
        for cells in _parse(lines, separator):
            if cells:
                rows.append(cells)
    except csv.Error:
        pass
    return rows
