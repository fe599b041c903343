"""The report as Markdown, and tables as aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.config.yaml_files import to_yaml
from mlrec.report.cost import cost_table, speed_table
from mlrec.report.escape import code, code_block, in_markdown, paragraph
from mlrec.report.paper_table import PaperTable
from mlrec.report.runs import Missing, Run
from mlrec.report.tables import (
    Table,
    differences_table,
    facts_table,
    group_names,
    groups_by_dataset,
    headed,
    headline,
    popularity_table,
    results_table,
)
from mlrec.runtime.printable import printable

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
    for run in runs:
        parts += [_missing(run, part) for part in run.missing]
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


def _missing(run: Run, part: Missing) -> str:
    """Return a sentence on a part that a run lacks."""
    if not part.command:
        return paragraph(f"{run.name} {part.text}.")
    return f"{paragraph(f'{run.name} {part.text}')} {code(part.command)}"


def _group(runs: Sequence[Run], name: str) -> list[str]:
    """Return the parts about runs with the same data set and split."""
    parts = []
    if name:
        parts.append(f"## {in_markdown(headed('Results', name))}")
    sentence = paragraph(headline(runs))
    if sentence:
        parts.append(sentence)
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
        return f"{len(runs)} runs"
    return ", ".join(run.name for run in runs)


def table(content: Table) -> str:
    """Return a table in Markdown, with the best values in bold."""
    # Markdown aligns a column by its second line
    alignment = "---:" if content.is_numeric else "---"
    lines = [
        _line(map(in_markdown, (content.corner, *content.header))),
        _line(["---", *[alignment] * len(content.header)]),
    ]
    for row in content.rows:
        cells = []
        for column, cell in enumerate(row.cells):
            text = in_markdown(cell)
            cells.append(f"**{text}**" if column in row.best else text)
        lines.append(_line([in_markdown(row.name), *cells]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def aligned(content: Table) -> str:
    """Return a table as text in columns: names to the left, cells to the right."""
    rows = [(content.corner, *content.header)]
    rows += [(row.name, *row.cells) for row in content.rows]
    lines = [tuple(map(printable, row)) for row in rows]
    name_width, *cell_widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    texts = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, cell_widths, strict=True)]
        texts.append("  ".join([name.ljust(name_width), *padded]))
    return "\n".join(texts)
