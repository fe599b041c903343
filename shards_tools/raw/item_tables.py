"""Tables of items in a raw folder: titles, likes and views."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from shards_tools.raw.tables import lines, open_text

MAX_COUNT = (1 << 63) - 1
"""Largest value of an int64 column."""


def read_titles(url: str | None, raw_ids: set[str]) -> dict[str, str]:
    """Return the titles of the items among `raw_ids`.

    Args:
        url: URL of the file; None for no titles.

    Raises:
        ValueError: the file is not UTF-8, or a quoted field in it is not closed.
    """
    titles: dict[str, str] = {}
    if url is None:
        return titles
    with open_text(url) as file:
        for row in _TitleRows(file, url, raw_ids):
            # This skips a header too, whose first cell is no item.
            if row and row[0].strip() in raw_ids:
                # a title with bare commas spreads over several cells
                titles[row[0].strip()] = ",".join(row[1:]).strip()
    return titles


class _TitleRows:
    """The rows of a titles file.

    An unclosed quote swallows all rows up to the next quote. It is recognized by a line within a
    row that begins with an item.
    """

    def __init__(self, file: TextIO, url: str, raw_ids: set[str]) -> None:
        self._file = file
        self._url = url
        self._raw_ids = raw_ids
        self._first_line = 1
        """Number of the line where the current row begins."""
        self._last_line = 0
        """Number of the line that was read last."""

    def __iter__(self) -> Iterator[list[str]]:
        try:
            for row in csv.reader(self._lines()):
                yield row
                self._first_line = self._last_line + 1
        except csv.Error as error:
            raise self._unclosed(str(error)) from error

    def _lines(self) -> Iterator[str]:
        for line in self._file:
            self._last_line += 1
            item, comma, _ = line.partition(",")
            # a line at the start of a row is where an item belongs
            is_within_row = self._last_line > self._first_line
            if is_within_row and comma and item.strip().strip('"') in self._raw_ids:
                raise self._unclosed(
                    f"line {self._last_line} with item {item.strip()} would be part of its title"
                )
            yield line

    def _unclosed(self, reason: str) -> ValueError:
        return ValueError(
            f"{self._url}, line {self._first_line}: "
            f"the row that begins here has a quote that is not closed ({reason}). "
            'Close it there, or double it ("") where it belongs to the title'
        )


class Counts(NamedTuple):
    """Public counts of an item."""

    likes: int
    views: int


def read_likes_and_views(url: str | None) -> dict[str, Counts]:
    """Return likes and views by raw item id.

    Args:
        url: URL of the file; None for no counts.

    Raises:
        ValueError: a line is not `item<TAB>likes<TAB>views`.
    """
    counts: dict[str, Counts] = {}
    if url is None:
        return counts
    with open_text(url) as file:
        for number, line in lines(file):
            try:
                item, likes, views = line.split()
                # the last row of an item wins
                counts[item] = Counts(_count(likes), _count(views))
            except ValueError as error:
                raise ValueError(
                    f"{url}, line {number}: expected item<TAB>likes<TAB>views "
                    f"with counts from 0 to 2^63 - 1, found {line[:60]!r}"
                ) from error
    return counts


def _count(text: str) -> int:
    """Return a count that an int64 column holds.

    Raises:
        ValueError: it is none.
    """
    count = int(text)
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(text)
    return count
