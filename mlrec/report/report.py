"""mlrec report: what runs reached, as Markdown, as one self-contained page, and as a short table for the console."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlrec import storage
from mlrec.config.arguments import Parser
from mlrec.report import html, markdown
from mlrec.report.paper import PAPER_TABLES, PaperTable
from mlrec.report.runs import Run, read_runs
from mlrec.report.tables import group_names, groups_by_dataset, results_table
from mlrec.runtime.json_output import add_json, print_json
from mlrec.runtime.printable import printable
from mlrec.runtime.terminal import say
from mlrec.storage.own_files import check_replaceable

REPORT_FILE = "report.html"


def write_report(runs: Sequence[Path], out: Path, paper: PaperTable | None = None) -> Path:
    """Writes the report of the run folders to `out`, an HTML page, and to the .md file beside it; returns `out`.

    Args:
        paper: a table of the paper with the runs in it, to stand before the rest.

    Raises:
        ValueError: one of the folders is no run, `out` does not end in .html, or one of the two files is there and no report.
    """
    if out.suffix != ".html":
        raise ValueError(f"the report {out} must end in .html; its Markdown goes beside it")
    read = read_runs(runs)
    _check_unowned(out)
    storage.write_bytes(str(out.with_suffix(".md")), markdown.report(read, paper).encode())
    storage.write_bytes(str(out), html.report(read, paper).encode())
    return out


def _check_unowned(out: Path) -> None:
    """Refuse to replace files that are no reports.

    Raises:
        ValueError: one of them is there.
    """
    marks = {out: html.MARKS, out.with_suffix(".md"): markdown.MARKS}
    foreign = [
        path.name for path, texts in marks.items() if path.exists() and not _is_report(path, texts)
    ]
    check_replaceable(str(out.parent), foreign, "mlrec report")


def _is_report(path: Path, marks: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return all(text.encode() in content for text in marks)


def short_table(runs: Sequence[Path]) -> str:
    """The metrics of the run folders against their baselines, as aligned text, a table for each data set and split.

    Raises:
        ValueError: one of the folders is no run.
    """
    groups = groups_by_dataset(read_runs(runs))
    tables = [markdown.aligned(results_table(group)) for group in groups]
    return "\n\n".join(
        f"{printable(name)}\n{text}" if name else text
        for name, text in zip(group_names(groups), tables, strict=True)
    )


def main(arguments: Sequence[str]) -> None:
    """Reports runs: [RUN ...] [--table baselines|encoders] [--out FILE.html] [--json]."""
    parser = Parser(
        prog="mlrec report", description="Compares runs, as a web page and as Markdown."
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument(
        "--table", choices=tuple(PAPER_TABLES), help="the paper's table, with the runs in its rows"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="default: report.html in the folder of a single run, or beside several",
    )
    add_json(parser)
    parsed = parser.parse_args(arguments)
    runs: list[Path] = parsed.runs
    if not runs and (parsed.out or not parsed.table):
        raise ValueError(
            "there is no RUN to report; give one or more, or --table alone for the paper's figures"
        )
    read = read_runs(runs)
    paper = PAPER_TABLES[parsed.table](read) if parsed.table else None
    if not parsed.json:
        say(markdown.paper_section(paper) if paper else short_table(runs))
    out = None
    if runs:
        folder = runs[0] if len(read) == 1 else runs[0].parent
        out = write_report(runs, parsed.out or folder / REPORT_FILE, paper)
    if parsed.json:
        print_json(
            {
                "report": out and str(out),
                "runs": list(map(_for_programs, read)),
                "paper": paper and _cells(paper),
            }
        )
    elif out is not None:
        say(f"\nreport: {out} and {out.with_suffix('.md').name}")


def _for_programs(run: Run) -> dict[str, Any]:
    """A run's results, its standard errors over the users with them; without results its folder alone."""
    return {"run": str(run.path), **run.results, "standard_errors": run.errors}


def _cells(paper: PaperTable) -> dict[str, Any]:
    """A table of the paper, as it is shown."""
    header = (paper.table.corner, *paper.table.header)
    rows = [dict(zip(header, (row.name, *row.cells), strict=True)) for row in paper.table.rows]
    return {"title": paper.title, "rows": rows, "notes": list(paper.notes)}
