"""A table of published figures with ours next to them: its lines, and which of them are folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mlrec.report.published import DATASET, Figure
from mlrec.report.tables import Row, Table
from mlrec.report.wording import NONE, listed, number

PARTS = ("published", "ours")
"""Columns of each group."""


class Cell(NamedTuple):
    """A figure as text."""

    value: str
    error: str
    """Uncertainty with its sign; "" for a figure without."""
    is_ours: bool

    @property
    def is_known(self) -> bool:
        """Whether there is a figure."""
        return self.value != NONE

    def __str__(self) -> str:
        return f"{self.value} {self.error}" if self.error else self.value


class Pair(NamedTuple):
    """A published figure and ours; None for one that does not exist."""

    published: Figure | None
    ours: Figure | None


@dataclass(frozen=True)
class Line:
    """A line of a table: a system or an encoder on one data set."""

    name: str
    facts: tuple[str, ...]
    pairs: tuple[Pair, ...]
    dataset: str
    runs: tuple[str, ...] = ()
    """Names of our runs, or of groups of runs that differ in their seed."""

    @property
    def cells(self) -> list[Cell]:
        """The figures, each published one followed by ours."""
        cells = []
        for pair in self.pairs:
            cells += [_cell(pair.published, is_ours=False), _cell(pair.ours, is_ours=True)]
        return cells

    @property
    def details(self) -> tuple[str, ...]:
        """What tells the line from others of the same name: runs and another data set."""
        return self.runs if self.dataset == DATASET else (*self.runs, self.dataset)


def _cell(figure: Figure | None, is_ours: bool) -> Cell:
    if figure is None:
        return Cell(NONE, "", is_ours)
    error = "" if figure.error is None else f"± {number(figure.error)}"
    return Cell(number(figure.value), error, is_ours)


class CostPoint(NamedTuple):
    """HR@10 of an encoder over its training cost."""

    encoder: str
    tuning: str
    gflops: float
    """Forward and backward pass of a video, 10^9 operations."""
    hit_rate: Figure
    run: str = ""
    """Name of our run; empty for a published figure."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper that includes our figures."""

    title: str
    corner: str
    facts: tuple[str, ...]
    """Header of the columns that describe a line."""
    groups: tuple[str, ...]
    """Header of the pairs of columns: a published figure and ours."""
    lines: tuple[Line, ...]
    later: Table
    """Results that others published later, on the same data set and split."""
    notes: tuple[str, ...]
    """Sentences below the table."""
    later_note: str
    points: tuple[CostPoint, ...] = ()
    """Points of the figure of accuracy over cost; without any there is no figure."""

    @property
    def shown(self) -> tuple[Line, ...]:
        """Lines of the systems that have runs of ours, these first; all lines if none has."""
        with_runs = [line.name for line in self.lines if line.runs]
        if not with_runs:
            return self.lines
        shown: list[Line] = []
        for name in dict.fromkeys(with_runs):
            lines = [line for line in self.lines if line.name == name]
            shown += sorted(lines, key=lambda line: not line.runs)
        return tuple(shown)

    @property
    def folded(self) -> tuple[Line, ...]:
        """Lines that a page shows on request."""
        shown = self.shown
        return tuple(line for line in self.lines if line not in shown)

    @property
    def table(self) -> Table:
        """All lines as text, with a column per figure."""
        columns = [f"{group}, {part}" for group in self.groups for part in PARTS]
        rows = []
        for line in (*self.shown, *self.folded):
            runs = listed(line.runs) or NONE
            cells = (*line.facts, *map(str, line.cells), line.dataset, runs)
            rows.append(Row(line.name, cells, is_run=bool(line.runs)))
        return Table(self.corner, (*self.facts, *columns, "data set", "runs"), tuple(rows))

    @property
    def has_runs(self) -> bool:
        """Whether any line has runs of ours; if not, a page shows no columns for them."""
        return any(line.runs for line in self.lines)
