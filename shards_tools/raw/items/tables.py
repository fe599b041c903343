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
from mlrec.data.raw_ids import IdMatcher
from shards_tools.raw.items.columns import (
    LIKES,
    TITLE,
    VIEWS,
    Kind,
    NoColumnError,
    Row,
)
from shards_tools.raw.items.files import may_lack_titles
from shards_tools.raw.items.parquet import ParquetTable
from shards_tools.raw.items.text import TextTable
from shards_tools.raw.items.values import ItemValues, shown
from shards_tools.raw.pairs.columns import plain_name
from shards_tools.raw.pairs.interactions import MAX_NUMBER_DIGITS
from shards_tools.raw.tables import open_text

MAX_COUNT = (1 << 63) - 1
"""Largest value of an int64 column."""
MAX_TITLE_CHARACTERS = csv.field_size_limit()
MISSING_COUNTS = ("", "nan", "none", "null", "na", "n/a", "\\n")
"""Spellings of a missing count, in lower case."""
LEVEL_NAMES = ("likeslevel", "viewslevel")
"""Columns of MicroLens-1M with ranges of counts, by `plain_name`."""
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
    with _open_items(url, (TITLE,), matcher) as table:
        titles = ItemValues[str](table, matcher, url)
        for raw_id, row in titles.rows():
            title = row.values[0].strip()
            if len(title) > MAX_TITLE_CHARACTERS:
                raise ValueError(
                    f"{url}, row {row.number}: the title of item {shown(raw_id)} has "
                    f"{len(title):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read. "
                    "Shorten it"
                )
            titles.add(raw_id, row, title)
        remarks = [*_untitled(url, titles.values, matcher), *titles.remarks()]
        return Titles(titles.values, remarks + _ignored_levels(url, table.names))


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
    num_missing = 0
    with _open_items(url, (LIKES, VIEWS), matcher) as table:
        counts = ItemValues[Counts](table, matcher, url)
        for raw_id, row in counts.rows():
            likes, views = [_count(text, row, url) for text in row.values]
            num_missing += (likes is None) + (views is None)
            counts.add(raw_id, row, Counts(likes or 0, views or 0))
        remarks = _missing_remark(url, "likes and views", len(counts.values), matcher)
        if num_missing:
            name = PurePosixPath(url).name
            remarks.append(f"{name}: read {num_missing:,} missing likes or views as 0")
        return ItemCounts(counts.values, remarks + counts.remarks())


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
            f"numbers from 0 to 2^63 - 1, not {shown(text)!r} for item {shown(row.item)}. "
            "Correct it, or leave the cell empty"
        )
    return int(count)
