"""Names of the columns of tables with interactions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mlrec.runtime.printable import printable

USER_NAMES = ("user", "users", "userid", "uid", "userindex", "useridx", "reviewerid", "customerid")
ITEM_NAMES = (
    "item",
    "itemid",
    "iid",
    "video",
    "videoid",
    "vid",
    "itemindex",
    "itemidx",
    "movieid",
    "productid",
    "parentasin",
    "asin",
)
LIST_NAMES = (
    "items",
    "itemids",
    "itemlist",
    "itemidlist",
    "itemseq",
    "itemsequence",
    "videos",
    "videoids",
    "history",
    "sequence",
)
"""Names of a column with a list of items per user, oldest first."""
TIME_NAMES = (
    "timestamp",
    "ts",
    "timestampms",
    "timems",
    "unixtimestamp",
    "unixreviewtime",
    "datetime",
    "time",
    "date",
)
LIST_TIME_NAMES = (
    "timestamps",
    "timestamplist",
    "timestampseq",
    "times",
    "timelist",
    "timeseq",
    "datetimes",
    "dates",
)
"""Usual names of a column with lists of times, which may be named like single times as well."""
LABEL_NAMES = ("label", "click", "clicked", "isclick")
"""Names of a column that is 0 where an item was shown to a user who did not watch it."""
# Names are compared by their letters and digits: user_id, User-ID and userId are one.
_SEPARATORS = re.compile(r"[\W_]+")


class Columns(NamedTuple):
    """Positions of the columns of interactions in a table, from 0."""

    user: int
    items: int
    """Of an item, or of a list of items."""
    has_lists: bool
    time: int | None = None
    """Of a time, or of a list of times; None if the table has no times."""
    label: int | None = None
    """Of a column that is 0 where an item was only shown."""


def find_columns(names: Sequence[str], file: str) -> Columns | None:
    """Return the columns of interactions in the table `file` by their names.

    Of several columns of times, the first in TIME_NAMES is used, as public logs have the date
    next to the exact time. A table with an item and a list per row holds samples of training,
    whose item is the interaction.

    Returns:
        None if there is no user, or no item.

    Raises:
        ValueError: several columns may be the users, the items or the lists, or two columns of
            times have one name.
    """
    plain = [plain_name(name) for name in names]
    users = _places(plain, USER_NAMES)
    items = _places(plain, ITEM_NAMES)
    lists = _places(plain, LIST_NAMES)
    if not users or not (items or lists):
        return None
    _check_single(names, users, "users", file)
    _check_single(names, items or lists, "items", file)
    times = _places(plain, TIME_NAMES + LIST_TIME_NAMES if items else LIST_TIME_NAMES + TIME_NAMES)
    same_times = [place for place in times if plain[place] == plain[times[0]]]
    _check_single(names, same_times, "times", file)
    time = times[0] if times else None
    if not items:
        return Columns(users[0], lists[0], True, time)
    labels = _places(plain, LABEL_NAMES)
    return Columns(users[0], items[0], False, time, labels[0] if labels else None)


def _check_single(names: Sequence[str], places: Sequence[int], kind: str, file: str) -> None:
    """Check that only one column is of a kind.

    Raises:
        ValueError: there are several, of which one would be chosen by chance.
    """
    if len(places) > 1:
        columns = ", ".join(printable(names[place].strip(), 40) for place in places)
        raise ValueError(
            f"{file}: {len(places)} columns may hold the {kind}: {columns}. "
            "Rename or remove all but one of them"
        )


def plain_name(name: str) -> str:
    """Return the letters and digits of a column's name, without RecBole's type after a colon."""
    # user_id:token
    return _SEPARATORS.sub("", name.partition(":")[0].casefold())


def ignored_columns(names: Sequence[str], columns: Columns) -> list[str]:
    """Return the names of the columns that are not used."""
    used = (columns.user, columns.items, columns.time, columns.label)
    return [name for place, name in enumerate(names) if place not in used and name.strip()]


def _places(plain: list[str], known: tuple[str, ...]) -> list[int]:
    """Return the positions of known names in a header, in the order of `known`."""
    places = []
    for name in known:
        places += [place for place, other in enumerate(plain) if other == name]
    return places
