"""mlrec report: what runs reached, as Markdown, as one self-contained page, and as a short table for the console."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec import storage
from mlrec.report import html, markdown
from mlrec.report.paper import PaperTable
from mlrec.report.runs import read_runs
from mlrec.report.tables import group_names, groups_by_dataset, results_table
from mlrec.runtime.printable import printable
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
