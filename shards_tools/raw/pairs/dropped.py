"""Rows of a file that are no interactions: counted, and limited in number."""

from __future__ import annotations

from mlrec.runtime.printable import counted, were

MAX_DROPPED_ROWS = 10
"""Number of rows that may be dropped, whatever their share of all rows."""
MAX_DROPPED_SHARE = 0.01
"""Share of all rows that may be dropped."""


class DroppedRows:
    """Counts the dropped rows of a file, and remembers the first."""

    def __init__(self, name: str) -> None:
        """Take the name of the file, for messages."""
        self._name = name
        self._example = ""
        self.count = 0

    def add(self, example: str, count: int = 1) -> None:
        """Count further rows, of which the first is described by `example`."""
        self._example = self._example or example
        self.count += count

    def remarks(self, num_kept: int) -> list[str]:
        """Return what was dropped, as remarks.

        Args:
            num_kept: Number of the other rows of the file.

        Raises:
            ValueError: too many rows were dropped, or there is no other.
        """
        num_rows = num_kept + self.count
        if not num_rows:
            raise ValueError(f"{self._name} has no interactions")
        if not self.count:
            return []
        dropped = f"{self.count:,} of {counted(num_rows, 'row')} could not be read"
        if not num_kept or self.count > max(MAX_DROPPED_ROWS, MAX_DROPPED_SHARE * num_rows):
            raise ValueError(
                f"{self._name}: {dropped}. The first is {self._example}. "
                f"At most {MAX_DROPPED_ROWS} rows, or {MAX_DROPPED_SHARE:.0%}, may be dropped. "
                "Correct them in the file"
            )
        return [
            f"{self._name}: {dropped} and {were(self.count)} dropped; the first is {self._example}"
        ]
