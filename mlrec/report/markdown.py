"""The report as Markdown, and tables as aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.config.yaml_files import to_yaml
from mlrec.report.cost import cost_table
from mlrec.report.escape import code, code_block, in_markdown, paragraph
from mlrec.report.metric_tables import popularity_table, results_table
from mlrec.report.orientation import headlines, overview_table
from mlrec.report.paper_table import PaperTable
from mlrec.report.runs import Missing, Run, missing_parts
from mlrec.report.speed import speed_table
from mlrec.report.tables import (
    Row,
    Table,
    differences_table,
    facts_table,
    group_names,
    groups_by_dataset,
    headed,
)
from mlrec.report.wording import BOLD, TIED
from mlrec.runtime.printable import counted, printable
from mlrec.runtime.terminal import MAX_LINE_CHARACTERS

MAX_NAMED_RUNS = 4
"""Runs whose names a title lists."""

_RUNS = "## Runs"
_CONFIGURATIONS = "## Configurations"
MARKS = (f"\n\n{_RUNS}\n\n", f"\n\n{_CONFIGURATIONS}\n\n")
"""Texts of every report about runs, also of earlier versions."""
LATER_HEADING = "## Published later"
PAPER_MARKS = (f"\n\n{LATER_HEADING}\n\n",)
"""Texts of every report about a table of the paper alone."""


def report(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """Return the whole report; curves and pictures are only in the HTML page."""
    parts = [f"# {in_markdown(title(runs, paper))}"]
    if paper is not None:
        parts.append(paper_section(paper))
    parts += [_missing(part) for part in missing_parts(runs)]
    if runs:
        parts += ["## Overview", table(overview_table(runs))]
    groups = groups_by_dataset(runs)
    for group, name in zip(groups, group_names(groups), strict=True):
        parts += _group(group, name)
    speed = speed_table(runs)
    if speed.rows:
        parts += ["## Speed", table(speed)]
    differences = differences_table(runs)
    if differences.rows and len(runs) > 1:
        parts += ["## What differs", table(differences)]
    if runs:
        parts += [_RUNS, table(facts_table(runs)), _CONFIGURATIONS]
    for run in runs:
        parts.append(f"### {in_markdown(run.name)}\n\n{code_block(to_yaml(run.config), 'yaml')}")
    return "\n\n".join(parts) + "\n"


def _missing(part: Missing) -> str:
    """Return a sentence on a part that runs lack."""
    text = paragraph(part.text)
    return f"{text} {code(part.command)}" if part.command else text


def _group(runs: Sequence[Run], name: str) -> list[str]:
    """Return the parts about runs with the same data set and split."""
    parts = []
    if name:
        parts.append(f"## {in_markdown(headed('Results', name))}")
    parts += [paragraph(sentence) for sentence in headlines(runs)]
    parts.append(table(results_table(runs)))
    cost = cost_table(runs)
    if cost.rows:
        parts += [f"## {in_markdown(headed('Accuracy over cost', name))}", table(cost)]
    by_group = popularity_table(runs)
    if by_group.header:
        heading = headed("HR@10 by popularity of the target", name)
        parts += [f"## {in_markdown(heading)}", table(by_group)]
    return parts


def paper_section(paper: PaperTable) -> str:
    """Return a table of the paper that includes the runs, and what was published later."""
    parts = [f"## {in_markdown(paper.title)}", table(paper.table), *map(paragraph, paper.notes)]
    parts += [LATER_HEADING, table(paper.later), paragraph(paper.later_note)]
    return "\n\n".join(parts)


def title(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """Return the report's title: the names of the runs or their number, or else the table's."""
    if paper is not None and not runs:
        return paper.title
    if len(runs) > MAX_NAMED_RUNS:
        return counted(len(runs), "run")
    return ", ".join(run.name for run in runs)


def table(content: Table) -> str:
    """Return a table in Markdown, with the best values in bold."""
    if content.note and not content.rows:
        return paragraph(content.note)
    # Markdown aligns a column by its second line
    alignments = []
    for column in range(len(content.header)):
        is_figure = content.is_numeric and column not in content.words
        alignments.append("---:" if is_figure else "---")
    lines = [
        _line(map(in_markdown, (content.corner, *content.header))),
        _line(["---", *alignments]),
    ]
    for row in content.rows:
        cells = []
        for column, cell in enumerate(row.cells):
            text = in_markdown(_with_mark(row, column, cell))
            cells.append(f"**{text}**" if column in row.best else text)
        lines.append(_line([in_markdown(_with_tags(row)), *cells]))
    note = f"\n\n{paragraph(content.note)}" if content.note else ""
    return "\n".join(lines) + note


def _with_tags(row: Row) -> str:
    return f"{row.name} ({', '.join(row.tags)})" if row.tags else row.name


def _with_mark(row: Row, column: int, cell: str) -> str:
    return f"{TIED} {cell}" if column in row.tied else cell


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def aligned(content: Table) -> str:
    """Return a table as text in columns: names to the left, cells to the right."""
    rows = [(content.corner, *content.header)]
    for row in content.rows:
        marked = []
        for column, cell in enumerate(row.cells):
            # a terminal's text has no bold
            marked.append(f"* {cell}" if column in row.best else _with_mark(row, column, cell))
        rows.append((_with_tags(row), *marked))
    lines = [tuple(map(printable, row)) for row in rows]
    name_width, *cell_widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    texts = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, cell_widths, strict=True)]
        texts.append("  ".join([name.ljust(name_width), *padded]))
    if content.note:
        texts.append(printable(content.note.replace(BOLD, "*"), MAX_LINE_CHARACTERS))
    return "\n".join(texts)
