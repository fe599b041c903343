"""What a bench found: figures for programs, and the same as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.runtime.json_output import print_json
from mlrec.runtime.terminal import say

Row = tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """A bench's figures and how they are shown."""

    bench: str
    measured: str
    """What was measured, in a sentence."""
    device: str
    """What it was measured on, in words."""
    figures: Mapping[str, Any]
    """For programs; units are in the keys."""
    tables: Sequence[Sequence[Row]]
    """For people; a table's first row is its header."""


def show(result: Result, as_json: bool) -> None:
    """Prints the result."""
    if as_json:
        print_json({"bench": result.bench, "device": result.device, **result.figures})
        return
    say(f"{result.measured}\non {result.device}")
    for table in result.tables:
        say(f"\n{aligned(table)}")


def aligned(table: Sequence[Row]) -> str:
    """A table as text: names to the left, figures to the right."""
    first, *others = (max(map(len, column)) for column in zip(*table, strict=True))
    return "\n".join(
        "  ".join(
            [
                name.ljust(first),
                *(cell.rjust(width) for cell, width in zip(cells, others, strict=True)),
            ]
        )
        for name, *cells in table
    )
