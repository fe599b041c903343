"""Tables of items in a raw folder: titles, likes and views."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from shards_tools.raw.tables import lines, open_text


def read_titles(url: str | None, raw_ids: set[str]) -> dict[str, str]:
    """Titles of the items among `raw_ids`.

    Raises:
        ValueError: the file is not UTF-8, or a quoted field in it is not closed.
    """
    titles: dict[str, str] = {}
    if url is None:
        return titles
    with open_text(url) as file:
        for row in _title_rows(file, url, raw_ids):
            # a header's first cell is no item; a title with bare commas spreads over several cells
            if row and row[0].strip() in raw_ids:
                titles[row[0].strip()] = ",".join(row[1:]).strip()
    return titles


def _title_rows(file: TextIO, url: str, raw_ids: set[str]) -> Iterator[list[str]]:
    """The rows of a titles file.

    A quote that nothing closes takes in all rows up to the next quote: a line that begins with an item, within a row, tells it.
    """
    first, last = 1, 0  # lines of the row that is being read

    def unclosed(reason: str) -> ValueError:
        return ValueError(
            f"{url}, line {first}: the row that begins here has a quote that is not closed ({reason}); close it there, or "
            'double it ("") where it belongs to the title'
        )

    def lines_read() -> Iterator[str]:
        nonlocal last
        for line in file:
            last += 1
            item, comma, _ = line.partition(",")
            if last > first and comma and item.strip().strip('"') in raw_ids:
                raise unclosed(f"line {last} with item {item.strip()} would be part of its title")
            yield line

    try:
        for row in csv.reader(lines_read()):
            yield row
            first = last + 1
    except csv.Error as error:
        raise unclosed(str(error)) from error


def _count(text: str) -> int:
    """Return a count that an int64 column holds."""
    count = int(text)
    if not 0 <= count < 1 << 63:
        raise ValueError(text)
    return count


def read_likes_and_views(url: str | None) -> dict[str, tuple[int, int]]:
    """Likes and views by raw item id.

    Raises:
        ValueError: a line is not `item<TAB>likes<TAB>views`.
    """
    counts: dict[str, tuple[int, int]] = {}
    if url is None:
        return counts
    with open_text(url) as file:
        for number, line in lines(file):
            try:
                item, likes, views = line.split()
                counts[item] = (_count(likes), _count(views))
            except ValueError as error:
                raise ValueError(
                    f"{url}, line {number}: expected item<TAB>likes<TAB>views with counts from 0 to 2^63 - 1, found {line[:60]!r}"
                ) from error
    return counts
