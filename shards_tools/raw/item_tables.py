"""Tables of items in a raw folder: titles, likes and views."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple

from mlrec import storage
from mlrec.runtime.printable import counted, printable
from shards_tools.raw.columns import plain_name
from shards_tools.raw.ids import IdMatcher
from shards_tools.raw.interactions import MAX_NUMBER_DIGITS
from shards_tools.raw.item_columns import (
    LIKES,
    MAX_QUOTED_CHARACTERS,
    TITLE,
    VIEWS,
    Kind,
    NoColumnError,
    Row,
    no_ids,
)
from shards_tools.raw.item_files import may_lack_titles
from shards_tools.raw.item_parquet import ParquetTable
from shards_tools.raw.item_text import TextTable
from shards_tools.raw.tables import open_text

MAX_COUNT = (1 << 63) - 1
"""Largest value of an int64 column."""
MAX_TITLE_CHARACTERS = csv.field_size_limit()
MISSING_COUNTS = ("", "nan", "none", "null", "na", "n/a", "\\n")
"""Spellings of a missing count, in lower case."""
LEVEL_NAMES = ("likeslevel", "viewslevel")
"""Columns of MicroLens-1M with ranges of counts, by `plain_name`."""
MAX_QUOTED_ROWS = 3
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE]\+?[0-9]{1,3})?")


@dataclass(frozen=True)
class Titles:
    """Titles of items."""

    titles: dict[str, str] = field(default_factory=dict)
    """Titles by raw id, of the items that have one."""
    remarks: list[str] = field(default_factory=list)
    """What was dropped, repeated or guessed, a sentence each without its full stop."""


class Counts(NamedTuple):
    """Public counts of an item."""

    likes: int
    views: int


@dataclass(frozen=True)
class ItemCounts:
    """Likes and views of items."""

    counts: dict[str, Counts] = field(default_factory=dict)
    """Counts by raw id, of the items in the table."""
    remarks: list[str] = field(default_factory=list)
    """What was dropped, repeated or guessed, a sentence each without its full stop."""


class ItemTables(NamedTuple):
    """What the tables of a raw folder tell about its items."""

    titles: dict[str, str]
    counts: dict[str, Counts]
    remarks: list[str]
    """What was dropped, repeated or guessed, a sentence each without its full stop."""


def read_item_tables(
    titles_url: str | None, likes_and_views_url: str | None, raw_ids: Sequence[str]
) -> ItemTables:
    """Return titles, likes and views of the items.

    Args:
        titles_url: URL of the table of titles; None for no titles.
        likes_and_views_url: URL of the table of counts; None for no counts.

    Raises:
        ValueError: a table is malformed.
    """
    matcher = IdMatcher(raw_ids)
    titles = read_titles(titles_url, matcher)
    counts = read_likes_and_views(likes_and_views_url, matcher)
    return ItemTables(titles.titles, counts.counts, titles.remarks + counts.remarks)


@contextmanager
def _open_items(
    url: str, kinds: Sequence[Kind], matcher: IdMatcher
) -> Iterator[TextTable | ParquetTable]:
    """Open a table of items.

    Raises:
        ValueError: it is malformed, or lacks a column.
    """
    if PurePosixPath(url).suffix.lower() == ".parquet":
        with storage.open_seekable(url) as stream:
            yield ParquetTable(stream, kinds, matcher, url)
    else:
        with open_text(url) as file:
            yield TextTable(file, kinds, matcher, url)


class _Matches:
    """The rows of a table whose item is in the data."""

    def __init__(self, table: TextTable | ParquetTable, matcher: IdMatcher, url: str) -> None:
        self._table = table
        self._matcher = matcher
        self._url = url
        self._name = PurePosixPath(url).name
        self._num_rows = 0
        self._num_unknown = 0
        self._num_respelled = 0
        self._example = ""
        self._first_rows: list[list[str]] = []

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        """Yield the raw id and the row."""
        for row in self._table:
            self._num_rows += 1
            raw_id = self._matcher.match(row.item)
            if raw_id is None:
                self._count_unknown(row)
                continue
            if raw_id != row.item:
                self._count_respelled(row, raw_id)
            yield raw_id, row
        if self._num_rows and self._num_unknown == self._num_rows:
            raise no_ids(self._first_rows, self._matcher, self._url)

    def _count_unknown(self, row: Row) -> None:
        self._num_unknown += 1
        if len(self._first_rows) < MAX_QUOTED_ROWS:
            self._first_rows.append([row.item, *row.values])

    def _count_respelled(self, row: Row, raw_id: str) -> None:
        # spaces around an id are no other spelling
        if row.item.strip() != raw_id:
            self._num_respelled += 1
            self._example = self._example or f"{_shown(row.item)!r} for {_shown(raw_id)}"

    def remarks(self, repeated: set[str]) -> list[str]:
        """Return the remarks about the rows.

        Args:
            repeated: Raw ids of items whose rows differ.
        """
        remarks = []
        if self._num_unknown:
            rows = counted(self._num_unknown, "row")
            remarks.append(f"left out {rows} of items without interactions")
        if self._num_respelled:
            ids = counted(self._num_respelled, "id")
            remarks.append(f"matched {ids} with another spelling, such as {self._example}")
        if repeated:
            items = counted(len(repeated), "item")
            example = _shown(min(repeated))
            remarks.append(
                f"used the last of several different rows for {items}, such as {example}"
            )
        if self._table.num_joined:
            rows = counted(self._table.num_joined, "row")
            remarks.append(f"read surplus cells of {rows} as part of the title")
        return [f"{self._name}: {remark}" for remark in remarks]


def _shown(text: str) -> str:
    return printable(text, MAX_QUOTED_CHARACTERS)


def read_titles(url: str | None, matcher: IdMatcher) -> Titles:
    """Return the titles of the items that `matcher` knows.

    Args:
        url: URL of the table; None for no titles.

    Raises:
        ValueError: the table is malformed, is not UTF-8, or its columns are not recognized.
    """
    if url is None:
        return Titles()
    try:
        return _read_titles(url, matcher)
    except NoColumnError as error:
        if not may_lack_titles(url):
            raise
        # remarks are stored, and must not tell the place of the raw folder
        remark = str(error).replace(url, PurePosixPath(url).name)
        return Titles(remarks=[f"no titles: {remark}"])


def _read_titles(url: str, matcher: IdMatcher) -> Titles:
    titles: dict[str, str] = {}
    repeated = set()
    with _open_items(url, (TITLE,), matcher) as table:
        matches = _Matches(table, matcher, url)
        for raw_id, row in matches:
            title = row.values[0].strip()
            if len(title) > MAX_TITLE_CHARACTERS:
                raise ValueError(
                    f"{url}, row {row.number}: the title of item {_shown(raw_id)} has "
                    f"{len(title):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read. "
                    "Shorten it"
                )
            if titles.setdefault(raw_id, title) != title:
                repeated.add(raw_id)
                titles[raw_id] = title
        remarks = [*_untitled(url, titles, matcher), *matches.remarks(repeated)]
        return Titles(titles, remarks + _ignored_levels(url, table.names))


def _untitled(url: str, titles: dict[str, str], matcher: IdMatcher) -> list[str]:
    """Return the remark about items without title."""
    num_titles = sum(map(bool, titles.values()))
    return _missing_remark(url, "title", num_titles, matcher)


def _missing_remark(url: str, part: str, num_items: int, matcher: IdMatcher) -> list[str]:
    """Return the remark that only `num_items` items are in a table."""
    num_missing = len(matcher) - num_items
    if not num_missing:
        return []
    name = PurePosixPath(url).name
    return [f"{num_missing:,} of {len(matcher):,} items have no {part} in {name}"]


def _ignored_levels(url: str, names: Sequence[str]) -> list[str]:
    """Return the remark about columns that look like likes and views, and are none."""
    levels = [name for name in names if plain_name(name) in LEVEL_NAMES]
    if not levels:
        return []
    name = PurePosixPath(url).name
    return [f"{name}: did not use {' and '.join(levels)}, which are ranges and not counts"]


def read_likes_and_views(url: str | None, matcher: IdMatcher) -> ItemCounts:
    """Return likes and views of the items that `matcher` knows.

    Args:
        url: URL of the table; None for no counts.

    Raises:
        ValueError: the table is malformed, or a value is no count.
    """
    if url is None:
        return ItemCounts()
    counts: dict[str, Counts] = {}
    repeated = set()
    num_missing = 0
    with _open_items(url, (LIKES, VIEWS), matcher) as table:
        matches = _Matches(table, matcher, url)
        for raw_id, row in matches:
            likes, views = [_count(text, row, url) for text in row.values]
            num_missing += (likes is None) + (views is None)
            item_counts = Counts(likes or 0, views or 0)
            if counts.setdefault(raw_id, item_counts) != item_counts:
                repeated.add(raw_id)
                counts[raw_id] = item_counts
        remarks = _missing_remark(url, "likes and views", len(counts), matcher)
        if num_missing:
            name = PurePosixPath(url).name
            remarks.append(f"{name}: read {num_missing:,} missing likes or views as 0")
        return ItemCounts(counts, remarks + matches.remarks(repeated))


def _count(text: str, row: Row, url: str) -> int | None:
    """Return a count that an int64 column holds; None if it is missing.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    # most cells, and millions of them
    if len(text) <= MAX_NUMBER_DIGITS and text.isascii() and text.isdecimal():
        return int(text)
    if text.lower() in MISSING_COUNTS:
        return None
    # Decimal, because a float would round 2^63 - 1
    count = Decimal(text) if _NUMBER.fullmatch(text) else Decimal(-1)
    # compared first: int() of 1e999999 would take all memory
    if not 0 <= count <= MAX_COUNT or count % 1:
        raise ValueError(
            f"{url}, line {row.number}: expected the item, its likes and its views as whole "
            f"numbers from 0 to 2^63 - 1, found {_shown(text)!r} for item {_shown(row.item)}. "
            "Correct it, or leave the cell empty"
        )
    return int(count)
