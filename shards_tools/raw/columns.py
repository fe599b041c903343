"""Names of the columns of tables with interactions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

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
    """None if the table has no times. Lists of items have none."""
    label: int | None = None
    """Of a column that is 0 where an item was only shown."""


def find_columns(names: Sequence[str]) -> Columns | None:
    """Return the columns of interactions in a table by their names.

    Where several names fit, the first in the tuple of its kind is used. A table with an item and
    a list per row holds samples of training, whose item is the interaction.

    Returns:
        None if there is no user, or no item.
    """
    plain = [plain_name(name) for name in names]
    user = _place(plain, USER_NAMES)
    item = _place(plain, ITEM_NAMES)
    item_list = _place(plain, LIST_NAMES)
    if user is None or (item is None and item_list is None):
        return None
    if item is None:
        assert item_list is not None
        return Columns(user, item_list, has_lists=True)
    return Columns(user, item, False, _place(plain, TIME_NAMES), _place(plain, LABEL_NAMES))


def plain_name(name: str) -> str:
    """Return the letters and digits of a column's name, without RecBole's type after a colon."""
    # user_id:token
    return _SEPARATORS.sub("", name.partition(":")[0].casefold())


def ignored_columns(names: Sequence[str], columns: Columns) -> list[str]:
    """Return the names of the columns that are not used."""
    used = (columns.user, columns.items, columns.time, columns.label)
    return [name for place, name in enumerate(names) if place not in used and name.strip()]


def _place(plain: list[str], known: tuple[str, ...]) -> int | None:
    for name in known:
        if name in plain:
            return plain.index(name)
    return None
