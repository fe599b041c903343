"""The record of moments at which the host of a GPU waits for it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

PACKAGE = str(Path(__file__).parents[2] / "mlrec") + "/"
COUNTER_OF_OPERATIONS = f"{PACKAGE}runtime/flops.py"
"""File through which all operations of a counted step go."""


class Kind(StrEnum):
    """Why the host waits."""

    READ = "host read"
    """It reads what the device computes, and so waits for all work before it."""
    COPY = "blocking copy"
    """It copies to the device from pageable memory, or asks for a copy that blocks."""


class Wait(NamedTuple):
    """One wait of the host."""

    kind: Kind
    place: str
    """The innermost line of mlrec, as "models/tower.py:12"."""
    operation: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.place} ({self.operation})"


@dataclass
class WaitRecord:
    """All waits so far, and marks at the ends of steps."""

    waits: list[Wait] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def add(self, kind: Kind, operation: str) -> None:
        """Record a wait in the line of mlrec that runs now."""
        self.waits.append(Wait(kind, place_in_mlrec(), operation))

    def mark(self) -> None:
        """Begin a step, and end the one before."""
        self.marks.append(len(self.waits))

    def clear(self) -> None:
        """Forget everything."""
        self.waits.clear()
        self.marks.clear()

    def steps(self) -> list[list[Wait]]:
        """Return the waits of each step between two marks."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return [self.waits[start:end] for start, end in pairs]


RECORD = WaitRecord()


def place_in_mlrec() -> str:
    """Return the innermost line of mlrec that runs now; "elsewhere" without one."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE) and file != COUNTER_OF_OPERATIONS:
            return f"{file.removeprefix(PACKAGE)}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "elsewhere"


def counts(waits: list[Wait]) -> dict[str, int]:
    """Return the number of waits of each kind."""
    by_kind = Counter(wait.kind for wait in waits)
    return {str(kind): by_kind[kind] for kind in Kind}
