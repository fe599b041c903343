"""The report as Markdown, and tables as aligned text for the console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.config.yaml_files import to_yaml
from mlrec.report.escape import code_block, in_markdown, paragraph
from mlrec.report.paper import PaperTable
from mlrec.report.runs import Run
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
    speed_table,
)
from mlrec.runtime.printable import printable

NAMED = 4
"""Runs that a title names."""

_RUNS, _CONFIGURATIONS = "## Runs", "## Configurations"
MARKS = (f"\n\n{_RUNS}\n\n", f"\n\n{_CONFIGURATIONS}\n\n")
"""Every report has them, those of earlier versions too."""


def report(runs: Sequence[Run], paper: PaperTable | None = None) -> str:
    """The whole report; its curves and pictures are in the HTML page beside it."""
    parts = [f"# {in_markdown(title(runs))}"]
    if paper is not None:
        parts.append(paper_section(paper))
    parts += [paragraph(f"{run.name} {text}.") for run in runs for text in run.missing]
    groups = groups_by_dataset(runs)
    for group, name in zip(groups, group_names(groups), strict=True):
        heading = f"## {in_markdown(headed('Results', name))}" if name else ""
        parts += [
            part
            for part in (heading, paragraph(headline(group)), table(results_table(group)))
            if part
        ]
        if (by_group := popularity_table(group)).header:
            parts += [
                f"## {in_markdown(headed('HR@10 by popularity of the target', name))}",
                table(by_group),
            ]
    if (speed := speed_table(runs)).rows:
        parts += ["## Speed", table(speed)]
    if (differences := differences_table(runs)).rows and len(runs) > 1:
        parts += ["## What differs", table(differences)]
    parts += [_RUNS, table(facts_table(runs)), _CONFIGURATIONS]
    parts += [
        f"### {in_markdown(run.name)}\n\n{code_block(to_yaml(run.config), 'yaml')}" for run in runs
    ]
    return "\n\n".join(parts) + "\n"


def paper_section(paper: PaperTable) -> str:
    """A table of the paper with our figures in it, and what belongs below."""
    return "\n\n".join(
        [f"## {in_markdown(paper.title)}", table(paper.table), *map(paragraph, paper.notes)]
    )


def title(runs: Sequence[Run]) -> str:
    """The report's title: the runs' names, or how many there are."""
    return ", ".join(run.name for run in runs) if len(runs) <= NAMED else f"{len(runs)} runs"


def table(content: Table) -> str:
    """A table in Markdown, the best values bold."""
    lines = [
        _line(map(in_markdown, (content.corner, *content.header))),
        _line(["---", *("---:" if content.is_numeric else "---" for _ in content.header)]),
    ]
    for row in content.rows:
        cells = [in_markdown(cell) for cell in row.cells]
        marked = [f"**{cell}**" if place in row.best else cell for place, cell in enumerate(cells)]
        lines.append(_line([in_markdown(row.name), *marked]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def aligned(content: Table) -> str:
    """A table as text in columns."""
    texts = [(content.corner, *content.header), *((row.name, *row.cells) for row in content.rows)]
    lines = [tuple(map(printable, line)) for line in texts]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join(
            [
                name.ljust(first),
                *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)),
            ]
        )
        for name, *cells in lines
    )
