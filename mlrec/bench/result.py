"""The result of a benchmark, as figures for programs and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.runtime.json_output import print_json
from mlrec.runtime.terminal import say

Row = tuple[str, ...]
"""Cells of a table row: a name, then figures."""


@dataclass(frozen=True)
class Result:
    """Figures of a benchmark and their form on the screen."""

    bench: str
    """Name of the benchmark."""
    measured: str
    """Sentence that says what was measured."""
    device: str
    """Description of the device that was measured."""
    figures: Mapping[str, Any]
    """Figures for programs, with units in the keys."""
    tables: Sequence[Sequence[Row]]
    """Tables for people. The first row of each is its header."""
    notes: Sequence[str] = ()
    """Sentences for people, without a full stop."""


def show(result: Result, as_json: bool) -> None:
    """Print the result, as one JSON document or as tables."""
    if as_json:
        print_json({"bench": result.bench, "device": result.device, **result.figures})
        return
    say(f"{result.measured}\non {result.device}")
    for table in result.tables:
        say(f"\n{aligned(table)}")
    for note in result.notes:
        say(f"\n{note}")


def aligned(table: Sequence[Row]) -> str:
    """Return a table as text, with names left-aligned and figures right-aligned."""
    # strict, because a row that lacks a cell is a bug in the benchmark
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for name, *figures in table:
        cells = [name.ljust(widths[0])]
        for figure, width in zip(figures, widths[1:], strict=True):
            cells.append(figure.rjust(width))
        lines.append("  ".join(cells))
    return "\n".join(lines)
