"""The rows of a table of items, matched with the items of the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from mlrec.data.raw_ids import IdMatcher
from mlrec.runtime.printable import counted, printable
from shards_tools.raw.items.columns import MAX_QUOTED_CHARACTERS, Row, no_ids
from shards_tools.raw.items.parquet import ParquetTable
from shards_tools.raw.items.text import TextTable
from shards_tools.raw.pairs.id_codes import describe_spelling

MAX_QUOTED_ROWS = 3

Value = TypeVar("Value")


class ItemValues(Generic[Value]):
    """Values of items in a table, and counts of its rows.

    A row with the id as the data spells it replaces rows with other spellings, because 01 may be
    another item than 1. Otherwise a later row replaces an earlier one.
    """

    def __init__(self, table: TextTable | ParquetTable, matcher: IdMatcher, url: str) -> None:
        self.values: dict[str, Value] = {}
        """Value by raw id, of the items in the rows so far."""
        self._table = table
        self._matcher = matcher
        self._url = url
        self._num_rows = 0
        self._num_unknown = 0
        self._first_rows: list[list[str]] = []
        self._repeated: set[str] = set()
        """Raw ids of items whose rows differ."""
        self._respelled: dict[str, str] = {}
        """Spelling by raw id, of the items whose value comes from a row with another spelling."""
        self._outranked: dict[str, str] = {}
        """Such a spelling by raw id, of items with another value in a row with their own id."""

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield the raw id and the row of each row whose item is in the data.

        Raises:
            ValueError: there is no such row, or the table is malformed.
        """
        for row in self._table:
            self._num_rows += 1
            raw_id = self._matcher.match(row.item)
            if raw_id is not None:
                yield raw_id, row
                continue
            self._num_unknown += 1
            if len(self._first_rows) < MAX_QUOTED_ROWS:
                self._first_rows.append([row.item, *row.values])
        if self._num_rows and self._num_unknown == self._num_rows:
            raise no_ids(self._first_rows, self._matcher, self._url)

    def add(self, raw_id: str, row: Row, value: Value) -> None:
        """Add the value of a row."""
        # spaces around an id are no other spelling
        is_exact = row.item.strip() == raw_id
        if raw_id not in self.values:
            self.values[raw_id] = value
            if not is_exact:
                self._respelled[raw_id] = row.item
            return
        is_repeated = value != self.values[raw_id]
        if is_exact and raw_id in self._respelled:
            spelling = self._respelled.pop(raw_id)
            self._repeated.discard(raw_id)
            self.values[raw_id] = value
            if is_repeated:
                self._outranked[raw_id] = spelling
        elif is_repeated and not is_exact and raw_id not in self._respelled:
            self._outranked[raw_id] = row.item
        elif is_repeated:
            self._repeated.add(raw_id)
            self.values[raw_id] = value

    def remarks(self) -> list[str]:
        """Return the remarks about the rows."""
        remarks = []
        if self._num_unknown:
            rows = counted(self._num_unknown, "row")
            remarks.append(f"left out {rows} of items without interactions")
        if self._respelled:
            ids = counted(len(self._respelled), "id")
            example = _spelling(self._respelled)
            remarks.append(f"matched {ids} with another spelling, such as {example}")
        if self._outranked:
            items = counted(len(self._outranked), "item")
            example = _spelling(self._outranked)
            remarks.append(
                f"used the rows with the exact id for {items}, not those with another spelling, "
                f"such as {example}"
            )
        if self._repeated:
            items = counted(len(self._repeated), "item")
            example = shown(min(self._repeated))
            remarks.append(
                f"used the last of several different rows for {items}, such as {example}"
            )
        if self._table.num_joined:
            rows = counted(self._table.num_joined, "row")
            remarks.append(f"read surplus cells of {rows} as part of the title")
        name = PurePosixPath(self._url).name
        return [f"{name}: {remark}" for remark in remarks]


def _spelling(spellings: dict[str, str]) -> str:
    """Return the first of some spellings, with its raw id."""
    raw_id, spelling = next(iter(spellings.items()))
    return describe_spelling(spelling.strip(), raw_id)


def shown(text: str) -> str:
    """Return a cell as a message shows it."""
    return printable(text, MAX_QUOTED_CHARACTERS)
