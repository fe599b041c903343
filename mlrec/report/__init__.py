"""mlrec report: what runs reached, as Markdown, as one self-contained page, and as a short table for the console."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mlrec import storage
from mlrec.report import html, markdown
from mlrec.report.runs import read_run
from mlrec.report.tables import groups_by_dataset, results_table

REPORT_FILE = "report.html"


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Writes the report of the run folders to `out`, an HTML page, and to the .md file beside it; returns `out`.

    Raises:
        ValueError: one of the folders is no run, or `out` does not end in .html.
    """
    if out.suffix != ".html":
        raise ValueError(f"the report {out} must end in .html; its Markdown goes beside it")
    read = [read_run(path) for path in runs]
    storage.write_bytes(str(out.with_suffix(".md")), markdown.report(read).encode())
    storage.write_bytes(str(out), html.report(read).encode())
    return out


def short_table(runs: Sequence[Path]) -> str:
    """The metrics of the run folders against their baselines, as aligned text.

    Raises:
        ValueError: one of the folders is no run.
    """
    groups = groups_by_dataset([read_run(path) for path in runs])
    return "\n\n".join(markdown.aligned(results_table(group)) for group in groups)


def main(arguments: Sequence[str]) -> None:
    """Reports runs: RUN [RUN ...] [--out FILE.html]."""
    parser = argparse.ArgumentParser(prog="mlrec report", description="Compares runs, as a web page and as Markdown.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help="default: report.html in the folder of a single run, or beside several"
    )
    parsed = parser.parse_args(arguments)
    runs: list[Path] = parsed.runs
    folder = runs[0] if len(runs) == 1 else runs[0].parent
    out = write_report(runs, parsed.out or folder / REPORT_FILE)
    print(f"{short_table(runs)}\n\nreport: {out} and {out.with_suffix('.md').name}")
