"""Report runs as Markdown, as one self-contained page, and as a short table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec import storage
from mlrec.report import html, markdown
from mlrec.report.metric_tables import SHORT_METRICS, results_table
from mlrec.report.paper_table import PaperTable
from mlrec.report.runs import read_runs
from mlrec.report.tables import group_names, groups_by_dataset
from mlrec.runtime.printable import printable
from mlrec.storage.own_files import check_replaceable

REPORT_FILE = "report.html"


def write_report(runs: Sequence[Path], out: Path, paper: PaperTable | None = None) -> Path:
    """Write the report of run folders to a page, and to a Markdown file next to it.

    Args:
        runs: none for a table of the paper alone.
        out: file that ends in .html; the Markdown file has the same name and ends in .md.
        paper: a table of the paper that includes the runs; shown first.

    Returns:
        `out`.

    Raises:
        ValueError: a folder is no run, `out` has another ending, or one of the two files exists and
            is no report.
    """
    if out.suffix != ".html":
        raise ValueError(f"The report {out} must end in .html. Markdown is written next to it")
    read = read_runs(runs)
    _check_unowned(out)
    storage.write_bytes(str(out.with_suffix(".md")), markdown.report(read, paper).encode())
    # the page comes second: if drawing it fails, the old page stays next to the new Markdown
    storage.write_bytes(str(out), html.report(read, paper).encode())
    return out


def _check_unowned(out: Path) -> None:
    """Check that a report replaces nothing but a report.

    Raises:
        ValueError: one of its two files exists and is no report.
    """
    marks = {
        out: (html.MARKS,),
        out.with_suffix(".md"): (markdown.MARKS, markdown.PAPER_MARKS),
    }
    foreign = []
    for path, alternatives in marks.items():
        if path.exists() and not any(_is_report(path, texts) for texts in alternatives):
            foreign.append(path.name)
    check_replaceable(str(out.parent), foreign, "mlrec report")


def _is_report(path: Path, marks: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return all(text.encode() in content for text in marks)


def short_table(runs: Sequence[Path]) -> str:
    """Return the metrics of runs and their baselines as aligned text.

    Each data set and split has a table of its own.

    Raises:
        ValueError: a folder is no run.
    """
    groups = groups_by_dataset(read_runs(runs))
    tables = []
    for group, name in zip(groups, group_names(groups), strict=True):
        table = markdown.aligned(results_table(group, SHORT_METRICS))
        tables.append(f"{printable(name)}\n{table}" if name else table)
    return "\n\n".join(tables)
