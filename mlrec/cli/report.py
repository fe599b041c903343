"""mlrec report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.config.arguments import Parser
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.terminal import say

if TYPE_CHECKING:
    from mlrec.report.paper_table import PaperTable
    from mlrec.report.runs import Run
    from mlrec.report.seeds import SeedGroup
    from mlrec.report.tables import Table

HELP = "Compare runs on a web page and in Markdown, with each other or with the paper's tables."
DESCRIPTION = """\
Prints a short table, and writes a page and its Markdown version: metrics with baselines, accuracy
over cost, curves, cold items, speed, and examples of recommendations."""
EXAMPLE = """\
mlrec report runs/quickstart_video runs/quickstart_id --out runs/quickstart/report.html
mlrec report --table encoders"""

# the names of PAPER_TABLES, which imports what reads runs; a test compares them
PAPER_TABLE_NAMES = ("baselines", "encoders")


def add_arguments(parser: Parser) -> None:
    """Add the runs, the paper's table, and the page."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="folders of runs (default: none, with --table)",
    )
    parser.add_argument(
        "--table",
        choices=PAPER_TABLE_NAMES,
        help="table of the paper to show the runs in; without runs it shows the paper's figures "
        "(default: none)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="page to write, with Markdown next to it "
        "(default: report.html in the folder of a single run, or next to several)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print a short table, and write the page of the runs.

    Raises:
        ValueError: there is nothing to report.
    """
    from mlrec.report import markdown
    from mlrec.report.paper import PAPER_TABLES
    from mlrec.report.report import REPORT_FILE, short_table, write_report
    from mlrec.report.runs import read_runs

    paths: list[Path] = options.runs
    if not paths and not options.table:
        raise ValueError(
            "there is no RUN to report; give one or more, or --table for the paper's figures"
        )
    # all runs are read before anything is printed or written
    runs = read_runs(paths)
    paper = PAPER_TABLES[options.table](runs) if options.table else None
    out: Path | None = options.out
    if out is None and paths:
        # read_runs counts a folder that is named twice once
        folder = paths[0] if len(runs) == 1 else paths[0].parent
        out = folder / REPORT_FILE
    # the page is complete before anything is printed, to a reader such as head that may leave
    if out is not None:
        write_report(paths, out, paper)
    if options.json:
        print_json(_document(out, runs, paper))
        return
    say(markdown.paper_section(paper) if paper else short_table(paths))
    if out is not None:
        say(f"\nreport: {out} and {out.with_suffix('.md')}")


def _document(out: Path | None, runs: list[Run], paper: PaperTable | None) -> dict[str, Any]:
    from mlrec.report.seeds import seed_groups

    return {
        "report": out and str(out),
        "runs": [_for_programs(run) for run in runs],
        "seeds": [_seeds_for_programs(group, runs) for group in seed_groups(runs)],
        "paper": paper and _cells(paper),
    }


def _for_programs(run: Run) -> dict[str, Any]:
    """Return a run's results with standard errors over the users; without results its folder."""
    return {"run": str(run.path), **run.results, "standard_errors": _errors(run)}


def _errors(run: Run) -> dict[str, dict[str, float]]:
    """Return the standard error of each metric over the users, by popularity group."""
    from mlrec.report.runs import metrics_of

    errors: dict[str, dict[str, float]] = {}
    for group in () if run.users is None else run.users.groups:
        errors[group] = {}
        for name in metrics_of([run]):
            error = run.error(name, group)
            if error is not None:
                errors[group][name] = error
    return errors


def _seeds_for_programs(group: SeedGroup, runs: list[Run]) -> dict[str, Any]:
    """Return the mean and the standard deviation of each metric over seeds, by popularity group."""
    from mlrec.report.runs import metrics_of
    from mlrec.report.tables import popularity_groups

    metrics: dict[str, dict[str, Any]] = {}
    for popularity in ("all", *popularity_groups(group.runs)):
        metrics[popularity] = {}
        for name in metrics_of(runs):
            spread = group.spread(name, popularity)
            metrics[popularity][name] = spread and spread._asdict()
    return {"name": group.name, "runs": [str(run.path) for run in group.runs], "metrics": metrics}


def _cells(paper: PaperTable) -> dict[str, Any]:
    """Return a table of the paper and what was published later, as they are shown."""
    return {
        "title": paper.title,
        "rows": _rows(paper.table),
        "published_later": _rows(paper.later),
        "notes": [*paper.notes, paper.later_note],
    }


def _rows(table: Table) -> list[dict[str, str]]:
    header = (table.corner, *table.header)
    return [dict(zip(header, (row.name, *row.cells), strict=True)) for row in table.rows]
