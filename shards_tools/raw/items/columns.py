"""The columns of a table of items, recognized by their names or by the ids in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mlrec.data.raw_ids import IdMatcher
from mlrec.runtime.printable import printable
from shards_tools.raw.pairs.columns import ITEM_NAMES, plain_name

Rows = Sequence[Sequence[str]]
"""Cells of some rows, which may be of different lengths."""

MAX_LEADING_COLUMNS = 4
"""Columns, besides the last, in which ids are looked for where rows differ in length."""
USUAL_SHARE = 0.95
"""Share of rows with the same number of cells, from which on the others count as malformed."""
MAX_QUOTED_ROWS = 3
MAX_QUOTED_CELLS = 8
MAX_QUOTED_CHARACTERS = 60


class Kind(NamedTuple):
    """A kind of column."""

    word: str
    """What such a column holds, for messages."""
    names: tuple[str, ...]
    """Usual names, as `plain_name` returns them; the first that a table has is used."""


ITEM = Kind("item", (*ITEM_NAMES, "newsid", "businessid", "rawid", "id"))
TITLE = Kind(
    "title",
    (
        "title",
        "titles",
        "itemtitle",
        "videotitle",
        "movietitle",
        "titleen",
        "entitle",
        "caption",
        "captions",
        "captionen",
        "text",
        "name",
        "itemname",
        "videoname",
        "moviename",
        "description",
        "itemdescription",
        "titlecn",
        "titlezh",
    ),
)
LIKES = Kind("likes", ("likes", "like", "likecount", "likescount", "likecnt", "numlikes"))
VIEWS = Kind(
    "views",
    ("views", "view", "viewcount", "viewscount", "viewcnt", "numviews", "plays", "playcount"),
)


SHOWN_NAMES = ("item_id", "video_id", "asin", "id", "caption", "name", "description")
"""Some names of columns of items and titles, for messages."""


class Row(NamedTuple):
    """A row of a table of items."""

    number: int
    """Number of its first line, or of the row in a Parquet table, from 1."""
    item: str
    """Id as the table spells it."""
    values: list[str]
    """Cells of the kinds that were asked for, in their order."""


class Columns(NamedTuple):
    """Positions of the columns of a table, from 0."""

    width: int
    """Number of columns of the table."""
    item: int
    values: tuple[int, ...]
    """Columns of the kinds that were asked for, in their order."""


def num_known_names(names: Iterable[str], kinds: Sequence[Kind]) -> int:
    """Return how many names are usual ones of a column of items or of `kinds`."""
    usual = {name for kind in (ITEM, *kinds) for name in kind.names}
    return sum(plain_name(name) in usual for name in names)


def columns_by_name(
    names: Sequence[str], rows: Rows, kinds: Sequence[Kind], matcher: IdMatcher, url: str
) -> Columns:
    """Return the columns of a table with a header.

    Args:
        names: The header.
        rows: First rows, which tell the column of items where names do not.

    Raises:
        ValueError: a column is missing, or several hold ids of items.
    """
    plain = [plain_name(name) for name in names]
    values = [_place(plain, kind) for kind in kinds]
    named_items = [plain.index(name) for name in ITEM.names if name in plain]
    candidates = named_items or [place for place in range(len(plain)) if place not in values]
    # of two columns, such as item,headline, the other is the title
    is_pair = len(names) == 2 and len(kinds) == 1
    for kind, place in zip(kinds, values, strict=True):
        if place is None and not is_pair:
            raise _no_column(kind, names, url)
    if not candidates:
        raise _no_column(ITEM, names, url)
    item = _item_column(rows, candidates, matcher, url)
    if item is None or (not named_items and not _is_certain(rows, item, matcher)):
        if not named_items and rows:
            raise no_ids(rows, matcher, url)
        # the first rows may be of items that are not in the data
        item = candidates[0]
    places = [1 - item if place is None else place for place in values]
    return Columns(len(names), item, tuple(places))


class NoColumnError(ValueError):
    """A table with a header lacks a column."""


def _no_column(kind: Kind, names: Sequence[str], url: str) -> NoColumnError:
    return NoColumnError(
        f"{url} has no column of {kind.word}: its columns are {quoted_cells(names)}. "
        f"Name one of them {kind.word}"
    )


def _place(plain: list[str], kind: Kind) -> int | None:
    """Return the position of the first usual name that a header has."""
    for name in kind.names:
        if name in plain:
            return plain.index(name)
    return None


def columns_by_values(rows: Rows, matcher: IdMatcher, url: str) -> Columns:
    """Return the columns of a table of items and titles that has no header.

    A title may stand before its item, and it may have bare separators in it.

    Raises:
        ValueError: there are other columns, or no column or more than one holds ids of items.
    """
    width = _usual_width(rows)
    if width is None:
        # The rest of a row is one title, so that the item is its first or its last cell.
        cells: Rows = [_ends(row) for row in rows]
        place = _item_column(cells, range(MAX_LEADING_COLUMNS + 1), matcher, url)
        is_clear = place in (0, MAX_LEADING_COLUMNS)
    else:
        cells = rows
        place = _item_column(cells, range(width), matcher, url)
        is_clear = width == 2
    if place is None or not _is_certain(cells, place, matcher):
        raise no_ids(rows, matcher, url)
    if not is_clear:
        raise ValueError(
            f"{url}: it is not clear which columns are the item and the title. "
            f"The first rows are {_quoted_rows(rows)}. {_name_the_columns(rows, matcher)}"
        )
    item = min(place, 1)
    return Columns(2, item, (1 - item,))


def _name_the_columns(rows: Rows, matcher: IdMatcher) -> str:
    """Return how the table can tell its columns, without a full stop."""
    if any(matcher.match(cell) is not None for cell in rows[0]):
        return "Put a header before them that names the columns, such as item,title"
    # a header names no item
    return (
        f"If {quoted_cells(rows[0])} is the header, rename its columns of items and titles, such "
        f"as to item and title. Names such as {', '.join(SHOWN_NAMES)} are recognized too"
    )


def _is_certain(rows: Rows, place: int, matcher: IdMatcher) -> bool:
    """Return whether a column has no name, but so many items that it must be that of items."""
    # The first column is the usual one. Another may be titles that end in a number.
    most = min(len(rows), len(matcher))
    return place == 0 or 2 * num_matches(rows, place, matcher) >= most


def _usual_width(rows: Rows) -> int | None:
    """Return how many cells nearly all rows have; None if they differ."""
    widths = Counter(map(len, rows))
    width, num_rows = widths.most_common(1)[0]
    return width if num_rows >= USUAL_SHARE * len(rows) else None


def _ends(row: Sequence[str]) -> list[str]:
    """Return the first MAX_LEADING_COLUMNS cells, "" where there are fewer, and the last cell."""
    leading = list(row[:-1][:MAX_LEADING_COLUMNS])
    padding = [""] * (MAX_LEADING_COLUMNS - len(leading))
    return [*leading, *padding, row[-1]]


def _item_column(rows: Rows, candidates: Sequence[int], matcher: IdMatcher, url: str) -> int | None:
    """Return the candidate with the most items; None if no candidate has any.

    Raises:
        ValueError: two have nearly as many. The other one often counts the rows.
    """
    num_items = Counter({place: num_matches(rows, place, matcher) for place in candidates})
    (best, most), *others = num_items.most_common() or [(0, 0)]
    if not most:
        return None
    if others and 2 * others[0][1] > most:
        raise ValueError(
            f"{url}: several columns hold ids of items. "
            f"The first rows are {_quoted_rows(rows)}. "
            "Remove one of these columns, or name them in a header, such as index,item,title"
        )
    return best


def most_items(rows: Rows, matcher: IdMatcher) -> int:
    """Return how many different items are in the column with the most."""
    ends = [_ends(row) for row in rows]
    return max(num_matches(ends, place, matcher) for place in range(MAX_LEADING_COLUMNS + 1))


def num_matches(rows: Rows, place: int, matcher: IdMatcher) -> int:
    """Return how many different items are in a column."""
    raw_ids = {matcher.match(row[place]) for row in rows if place < len(row)}
    return len(raw_ids - {None})


def no_ids(rows: Rows, matcher: IdMatcher, url: str) -> ValueError:
    """Return the error about a table without any item of the data."""
    items = ", ".join(printable(raw_id, MAX_QUOTED_CHARACTERS) for raw_id in matcher.examples())
    return ValueError(
        f"{url} has no item of the interactions, such as {items}. "
        f"Its first rows are {_quoted_rows(rows)}. "
        "Give the table of these items, with a header such as item,title, or remove the file"
    )


def _quoted_rows(rows: Rows) -> str:
    return " and ".join(quoted_cells(row) for row in rows[:MAX_QUOTED_ROWS])


def quoted_cells(cells: Sequence[str]) -> str:
    """Return cells as a message shows them."""
    shown = [printable(cell, MAX_QUOTED_CHARACTERS) for cell in cells[:MAX_QUOTED_CELLS]]
    more = ", ..." if len(cells) > MAX_QUOTED_CELLS else ""
    return f"[{' | '.join(shown)}{more}]"
